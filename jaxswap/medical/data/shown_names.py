"""Names that files give, as pictures and narrow tables show them."""

from __future__ import annotations

from typing import Any

_LONGEST = 32


def short_name(name: str, longest: int = _LONGEST) -> str:
    """Cut a long name off. A picture's legend and a table's column stay readable.

    Args:
        name: The name of a region or a case.
        longest: The most characters.

    Example:
        >>> short_name("left anterior thalamic radiation, upper half")
        'left anterior thalamic radiatio…'
    """
    return name if len(name) <= longest else name[: longest - 1] + "…"


def legend_label(name: str) -> str:
    """Return a name for a legend. Matplotlib leaves out what begins with `_`.

    Args:
        name: The name of a region.

    Example:
        >>> legend_label("_left")
        ' _left'
    """
    short = short_name(name)
    return f" {short}" if short.startswith("_") else short


def show_as_written(figure: Any) -> None:
    """Draw every text of a figure as it is written: a dollar sign begins no formula.

    Bytes of a file's name that are no UTF-8 are drawn as escapes.

    Args:
        figure: A Matplotlib figure with all of its texts.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(text.get_text().encode(errors="backslashreplace").decode())
