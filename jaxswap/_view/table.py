"""Rows of cells -> a table of plain text."""

from collections.abc import Sequence


def table_lines(
    rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: str = ""
) -> list[str]:
    """Align cells in columns that are two blanks apart.

    Args:
        rows: The rows, with the heading as the first. All have the same number of
            cells.
        right: Columns whose cells are aligned on the right.
        indent: The text at the beginning of each line.

    Returns:
        A line for each row, without spaces at its end.

    Example:
        >>> table_lines([("name", "size"), ("a", "12"), ("bcdef", "7")], right=[1])
        ['name   size', 'a        12', 'bcdef     7']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def align(column: int, cell: str) -> str:
        width = widths[column]
        return cell.rjust(width) if column in right else cell.ljust(width)

    return [
        (indent + "  ".join(align(i, cell) for i, cell in enumerate(row))).rstrip()
        for row in rows
    ]
