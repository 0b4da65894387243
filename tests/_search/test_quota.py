"""How much a search may do: drafts are counted, and a clock is a safety net."""

import time

import pytest

from jaxswap._search.quota import Quota


class Counter:
    """Counts what a test says."""

    def __init__(self) -> None:
        self.drafts = 10

    def __call__(self) -> int:
        return self.drafts


def test_a_quota_is_over_when_so_many_drafts_were_laid_out() -> None:
    count = Counter()
    quota = Quota.of(5, count)
    assert not quota.is_over
    count.drafts = 14
    assert not quota.is_over
    count.drafts = 15
    assert quota.is_over
    assert not quota.is_late


def test_parts_of_a_quota_end_sooner() -> None:
    quota = Quota.of(20, Counter())
    assert quota.earlier(15).left == 5
    assert quota.within(5).left == 5
    assert quota.within(90).left == 20


def test_the_clock_ends_a_search_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quota = Quota.of(5, Counter(), seconds=60.0)
    assert not quota.is_over
    later = time.monotonic() + 61.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert quota.is_late
    assert quota.within(3).is_over
