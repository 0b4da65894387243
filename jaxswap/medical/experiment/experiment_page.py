"""A report of headings, sentences, tables and pictures, as Markdown and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from jaxswap.medical.scoring.page_style import STYLE

_WRAPPED = "td,th{white-space:normal}th{min-width:4.5em}td:first-child{min-width:9em}"
_WRAPPED += "img{min-width:0;max-width:760px}.hash{overflow-wrap:anywhere}"


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 or 2."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph, or an item of a list."""

    text: str
    is_item: bool = False


@dataclass(frozen=True)
class Table:
    """A table. Each caption says that cases are synthetic, where they are."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A picture beside the report, by the name of its file."""

    file: str
    caption: str


Block = Heading | Text | Table | Picture


def to_markdown(blocks: Sequence[Block]) -> str:
    """Write blocks as Markdown.

    Example:
        >>> print(to_markdown([Heading("Result", 1), Text("None", is_item=True)]))
        # Result
        <BLANKLINE>
        * None
        <BLANKLINE>
    """
    parts = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"{'#' * level} {text}")
            case Text(text, is_item):
                parts.append(f"* {text}" if is_item else text)
            case Table(caption, head, rows):
                lines = [head, ["---"] * len(head), *rows]
                cells = "\n".join(f"| {' | '.join(line)} |" for line in lines)
                parts.append(f"{caption}\n\n{cells}")
            case Picture(file, caption):
                parts.append(f"![{caption}]({file})\n\n{caption}")
    return "\n\n".join(parts) + "\n"


def to_html(blocks: Sequence[Block], title: str) -> str:
    """Write blocks as a page for narrow and wide, light and dark screens.

    Args:
        blocks: What it shows.
        title: Its title.
    """
    parts = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"<h{level}>{escape(text)}</h{level}>")
            case Text(text, is_item):
                begin = "• " if is_item else ""
                parts.append(f'<p class="hash">{begin}{escape(text)}</p>')
            case Table(caption, head, rows):
                parts.append(_table(caption, head, rows))
            case Picture(file, caption):
                parts.append(
                    f"<figure><figcaption>{escape(caption)}</figcaption>"
                    f'<img src="{escape(file)}" alt="{escape(caption)}"></figure>'
                )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{_WRAPPED}</style>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for row in rows
    )
    return (
        f'<p class="quiet">{escape(caption)}</p><div class="wide"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
