"""Tables of plain text."""

import pytest

from jaxswap._view.table import table_lines

ROWS = [("name", "bytes", ""), ("a", "1,000", "x"), ("longer", "7", "")]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table_lines(ROWS) == [
        "name    bytes",
        "a       1,000  x",
        "longer  7",
    ]


def test_numbers_are_aligned_on_the_right() -> None:
    assert table_lines(ROWS, right=[1], indent="  ") == [
        "  name    bytes",
        "  a       1,000  x",
        "  longer      7",
    ]


def test_rows_have_equally_many_cells() -> None:
    with pytest.raises(ValueError, match="shorter"):
        table_lines([("a", "b"), ("c",)])
