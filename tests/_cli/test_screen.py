"""Any text on any stream."""

import io
import sys

import pytest
from rich.table import Table

from jaxswap._cli import main as cli
from jaxswap._cli.command import tell, write
from jaxswap._cli.screen import harmless, make_console, write_any_text


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)


def written(monkeypatch: pytest.MonkeyPatch, encoding: str, text: str) -> str:
    monkeypatch.setattr(sys, "stdout", stream(encoding))
    write_any_text()
    sys.stdout.write(text)
    return sys.stdout.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("text", "ascii"),
    [
        ("┌─┐ │x│", "+-+ |x|"),
        ("16³ × 2 → 1 · é …", "163 x 2 -> 1 . e ..."),
        ("\N{MINUS SIGN}1 \N{EN DASH} 2 µs ≤ 3", "-1 - 2 us <= 3"),
        ("頭 \udcff", "? ?"),
    ],
)
def test_what_an_encoding_lacks_is_written_as_what_is_near(monkeypatch, text, ascii):
    assert written(monkeypatch, "ascii", text) == ascii


def test_what_an_encoding_has_is_written_as_it_is(monkeypatch):
    assert written(monkeypatch, "utf-8", "头 └─┘ é \udcff") == "头 └─┘ é ?"
    assert written(monkeypatch, "latin-1", "é ─ µ") == "é - µ"


def test_a_plan_is_printed_where_the_locale_is_ascii(monkeypatch):
    out = stream("ascii")
    monkeypatch.setattr(sys, "stdout", out)
    words = ("plan", "unet3d", "--target", "h100", "--size", "16", "--no-compile")
    assert cli.main(words) == 0
    text = out.buffer.getvalue().decode("ascii")
    assert "decisions" in text
    assert "?" not in text


def test_stdout_that_is_no_file_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    write_any_text()
    write("é")
    assert sys.stdout.getvalue() == "é\n"


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
