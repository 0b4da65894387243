"""Arguments that cannot be meant are refused by name."""

from typing import Any

import pytest

from jaxswap._base.arguments import (
    at_least_one,
    positive_seconds,
    refuse_idle,
    refuse_keywords,
)


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


def test_what_has_no_effect_is_refused_by_name() -> None:
    refuse_idle({"`target` and `policy`": False})
    with pytest.raises(ValueError, match="`target` and `policy` are given"):
        refuse_idle({"`reserve` and `plan`": False, "`target` and `policy`": True})


def test_keywords_of_others_are_refused_with_the_reason() -> None:
    with pytest.raises(TypeError, match="`prevent_cse`: it has no use here, because"):
        refuse_keywords({"prevent_cse": False})
    with pytest.raises(TypeError, match=r"unexpected keyword argument `polcy`\.$"):
        refuse_keywords({"polcy": None})
