"""Arguments that cannot be meant are refused by name."""

from typing import Any

import pytest

from jaxswap._base.arguments import at_least_one, positive_seconds


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "2", None])
def test_counts_are_integers_from_one_on(count: Any) -> None:
    assert at_least_one(3, "tries") == 3
    with pytest.raises(ValueError, match=f"`tries` is {count!r}; an integer"):
        at_least_one(count, "tries")


@pytest.mark.parametrize(
    "seconds", [0, -3, float("nan"), float("inf"), True, "x", None]
)
def test_seconds_are_positive_and_finite(seconds: Any) -> None:
    assert positive_seconds(0.5, "search_seconds") == 0.5
    with pytest.raises(
        ValueError, match=f"`search_seconds` is {seconds!r}; a positive"
    ):
        positive_seconds(seconds, "search_seconds")
