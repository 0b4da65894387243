"""Which of two drafts is the better one."""

from typing import Any

from scripted_search import FakeDraft, Line

from jaxswap._search.best import Best
from jaxswap._search.limits import Limits

SMALL: Any = FakeDraft(Line(device_bytes=100, seconds=1.0, host_bytes=50))
LARGE: Any = FakeDraft(Line(device_bytes=300, seconds=2.0))


def best_of(limits: Limits, *drafts: Any) -> Any:
    best = Best(limits)
    for draft in drafts:
        best.offer(draft)
    return best.draft


def test_the_faster_of_two_that_fit_is_better() -> None:
    assert best_of(Limits(300), SMALL, LARGE) is SMALL


def test_gaps_between_buffers_count_where_they_are_asked_for() -> None:
    gappy: Any = FakeDraft(Line(device_bytes=280, seconds=0.5), fragmented_bytes=40)
    assert best_of(Limits(300), SMALL, gappy) is gappy
    assert best_of(Limits(300, with_gaps=True), SMALL, gappy) is SMALL
    assert best_of(Limits(320, with_gaps=True), SMALL, gappy) is gappy


def test_the_smaller_of_two_that_do_not_fit_is_better() -> None:
    assert best_of(Limits(50), LARGE, SMALL) is SMALL


def test_no_device_memory_pays_for_host_memory_beyond_the_limit() -> None:
    for drafts in ((SMALL, LARGE), (LARGE, SMALL)):
        assert best_of(Limits.smallest(0), *drafts) is LARGE
        assert best_of(Limits(50, 40), *drafts) is LARGE
    assert best_of(Limits(50, 50), SMALL, LARGE) is SMALL
