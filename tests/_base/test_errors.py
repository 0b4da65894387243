"""What the error says when nothing fits into a budget."""

from typing import Any

import pytest

import jaxswap
from jaxswap import BudgetError

GIB = 1 << 30


def error(**more: Any) -> BudgetError:
    in_the_way = [(f"encoder/dot_{i} net.py:{i}", (20 - i) * GIB) for i in range(12)]
    return BudgetError(
        8 * GIB, 11 * GIB + 5, in_the_way, **{"is_compiled": True, **more}
    )


def test_it_holds_the_numbers() -> None:
    caught = error()
    assert caught.budget_bytes == 8 * GIB
    assert caught.smallest_bytes == 11 * GIB + 5
    assert caught.in_the_way[0] == ("encoder/dot_0 net.py:0", 20 * GIB)
    assert isinstance(caught.in_the_way, tuple)
    assert len(caught.in_the_way) == 12


def test_it_is_a_value_error_and_public() -> None:
    assert issubclass(BudgetError, ValueError)
    assert jaxswap.BudgetError is BudgetError


def test_its_text_names_budget_smallest_and_what_is_alive() -> None:
    text = str(error())
    assert text.startswith("`budget` is 8.00 GiB; ")
    assert "11.0 GiB" in text
    assert f"{11 * GIB + 5} bytes" in text  # to be passed as it is
    assert "encoder/dot_0 net.py:0 20.0 GiB; encoder/dot_1 net.py:1 19.0 GiB" in text
    assert "dot_7" in text
    assert "dot_8" not in text  # the largest are enough
    assert "\n" not in text


@pytest.mark.parametrize(
    ("is_compiled", "word"), [(True, "compiled"), (False, "simulated")]
)
def test_its_text_says_where_the_smallest_comes_from(
    is_compiled: bool, word: str
) -> None:
    text = str(error(is_compiled=is_compiled))
    assert f"bytes, {word})" in text


def test_it_can_be_raised_with_nothing_alive() -> None:
    with pytest.raises(BudgetError, match="`budget` is 0 B"):
        raise BudgetError(0, 4, [], is_compiled=False)


def test_its_text_says_whether_host_memory_is_missing() -> None:
    assert "host" not in str(error())
    enough = error(host_budget_bytes=GIB)
    assert str(enough).endswith("1.00 GiB; more would not help (simulated).")
    missing = error(host_budget_bytes=GIB, needed_host_bytes=3 * GIB)
    assert missing.needed_host_bytes == 3 * GIB
    assert "`host_budget` is 1.00 GiB, too little for this `budget`" in str(missing)
    assert "with 3.00 GiB of pinned host memory a plan fits" in str(missing)
