"""Any text on any stream."""

import contextlib
import io
import sys
from collections.abc import Iterator

import pytest
from rich.table import Table

from jaxswap._cli import main as cli
from jaxswap._cli.command import tell, write
from jaxswap._cli.screen import harmless, make_console, write_any_text


@contextlib.contextmanager
def stdout(encoding: str) -> Iterator[io.BytesIO]:
    """Put a stream of an encoding into the place of stdout."""
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, write_through=True)
    with contextlib.redirect_stdout(stream):
        yield written


def written(encoding: str, text: str) -> str:
    with stdout(encoding) as out:
        write_any_text()
        sys.stdout.write(text)
        return out.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("text", "ascii"),
    [
        ("┌─┐ │x│", "+-+ |x|"),
        ("16³ × 2 → 1 · é …", "163 x 2 -> 1 . e ..."),
        ("\N{MINUS SIGN}1 \N{EN DASH} 2 µs ≤ 3", "-1 - 2 us <= 3"),
        ("頭 \udcff", "? ?"),
    ],
)
def test_what_an_encoding_lacks_is_written_as_what_is_near(text, ascii):
    assert written("ascii", text) == ascii


def test_what_an_encoding_has_is_written_as_it_is():
    assert written("utf-8", "头 └─┘ é \udcff") == "头 └─┘ é ?"
    assert written("latin-1", "é ─ µ") == "é - µ"


def test_a_plan_is_printed_where_the_locale_is_ascii():
    words = ("plan", "unet3d", "--target", "h100", "--size", "16", "--no-compile")
    with stdout("ascii") as out:
        assert cli.main(words) == 0
        text = out.getvalue().decode("ascii")
    assert "decisions" in text
    assert "?" not in text


def test_stdout_that_is_no_file_is_left_alone():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        write_any_text()
        write("é")
    assert out.getvalue() == "é\n"


def test_names_cannot_move_the_cursor(capsys):
    assert harmless("a\x1b[2Jb\r\n\tc\x9b") == "a\\x1b[2Jb\\x0d\n\tc\\x9b"
    write("\x1b[31m")
    tell("\x07")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("\\x1b[31m\n", "\\x07\n")


def test_brackets_are_text_in_lines_and_tables(capsys):
    console = make_console()
    name = "[/red] [bold]x[/bold] :smile:"
    table = Table(title=name)
    table.add_column(name, no_wrap=True)
    table.add_row(name)
    console.print(table)
    console.print(name)
    assert capsys.readouterr().out.count(name) == 4
