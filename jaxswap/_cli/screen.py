"""What commands write to: terminals, pipes and logs of any encoding.

Names of labels, cases and folders come from files. They are text, never instructions
to the terminal.
"""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_IN_ASCII = str.maketrans(
    {
        **dict.fromkeys("─━═╌┄\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}", "-"),
        **dict.fromkeys("│┃║┆┊", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼┏┓┗┛┡┩╇╭╮╰╯", "+"),
        **dict.fromkeys("█▇▆▅▄▃▂▁▉▊▋▌▍▎▏■▪●", "#"),
        **dict.fromkeys("░▒▓·", "."),
        **{"×": "x", "→": "->", "≤": "<=", "≥": ">=", "µ": "u", "μ": "u"},
    }
)
_CONTROLS = {
    code: f"\\x{code:02x}"
    for code in (*range(32), *range(127, 160))
    if code not in (9, 10)
}
_HANDLER = "jaxswap.nearest"


def write_any_text() -> None:
    """Let stdout and stderr take every character, whatever their encoding is.

    A locale of ASCII, as jobs and containers have it, would end the command instead.
    What the encoding lacks is written as the nearest character that it has.
    """
    codecs.register_error(_HANDLER, _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Not what notebooks put there.
            stream.reconfigure(errors=_HANDLER)


def harmless(text: str) -> str:
    """Write control characters out. In a file's name they could move the cursor.

    Args:
        text: Any text. Line ends and tabs stay.
    """
    return text.translate(_CONTROLS)


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Make a console that takes text as it is: brackets in a name are no markup.

    Args:
        stderr: Whether it writes to stderr.
        quiet: Whether it writes nothing.
    """
    from rich.console import Console

    return Console(stderr=stderr, quiet=quiet, markup=False, emoji=False)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_IN_ASCII)
    plain = unicodedata.normalize("NFKD", text)
    kept = (c for c in plain if not unicodedata.combining(c))
    return "".join(c if c.isascii() else "?" for c in kept), error.end
