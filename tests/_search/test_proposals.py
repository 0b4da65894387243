"""The linear model is solved before its drafts are asked for, with the same result."""

import threading
from typing import Any

import numpy as np
import pytest
from handmade import MIB, chain, rates

from jaxswap._search import proposals as proposals_module
from jaxswap._search.best import Best
from jaxswap._search.candidates import find_candidates
from jaxswap._search.lessons import NO_LESSONS, Lessons
from jaxswap._search.limits import Limits
from jaxswap._search.proposals import Proposals
from jaxswap._simulate.draft import Arranger
from jaxswap._sketch.sketch import Sketcher

ARRANGER = Arranger(chain(16), rates(), MIB)
CANDIDATES = find_candidates(ARRANGER.graph, ARRANGER.simulator.fusion, MIB)
KEPT = ARRANGER.arrange(CANDIDATES.fixed, 0)
LIMITS = Limits(KEPT.timeline.device_bytes // 2)
SWAPLESS = Limits(LIMITS.device_bytes, 0)


def made() -> Proposals:
    return Proposals(ARRANGER, CANDIDATES, KEPT, Sketcher(ARRANGER))


def offered(
    proposals: Proposals, limits: Limits, lessons: Lessons = NO_LESSONS
) -> tuple[float, list[bytes]]:
    """The bound, and all actions that are laid out."""
    found: list[bytes] = []

    def lay_out(numbers: np.ndarray, hold_for: int) -> list[object]:
        found.append(numbers.tobytes())
        return []

    proposals.offer(Best(limits), lessons, lay_out)  # type: ignore[arg-type]
    return proposals.bound(limits), found


@pytest.mark.parametrize("limits", [LIMITS, SWAPLESS])
def test_what_was_begun_leads_to_the_same_proposals(limits: Limits) -> None:
    begun, other = made(), made()
    begun.begin([SWAPLESS, LIMITS], NO_LESSONS)
    bound, actions = offered(begun, limits)
    assert actions
    assert (bound, actions) == offered(other, limits)


def test_what_was_begun_is_not_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded: list[int] = []
    solved: list[int] = []
    bound, solve = proposals_module.bound_seconds, proposals_module.solve

    def counted_bound(model: Any, limit_bytes: int) -> float:
        bounded.append(limit_bytes)
        return bound(model, limit_bytes)

    def counted(model: Any, limit_bytes: int, **options: Any) -> Any:
        solved.append(limit_bytes)
        return solve(model, limit_bytes, **options)

    monkeypatch.setattr(proposals_module, "bound_seconds", counted_bound)
    monkeypatch.setattr(proposals_module, "solve", counted)
    first, alone = made(), made()
    offered(alone, LIMITS)
    each = len(solved)
    for times in (1, 2):
        first.begin([LIMITS], NO_LESSONS)
        offered(first, LIMITS)
        first.end()
        assert len(solved) - each == 1 + times * (each - 1)
    assert bounded == [LIMITS.device_bytes] * 2


def test_other_values_that_have_to_stay_are_another_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proposals_module, "ROUNDS", (1, 1))
    forms = proposals_module.VARIANTS[:1]
    monkeypatch.setattr(proposals_module, "VARIANTS", forms)
    proposals = made()
    proposals.begin([LIMITS], NO_LESSONS)
    _, actions = offered(proposals, LIMITS)
    grounded = Lessons(grounded=frozenset(proposals.values))
    proposals.begin([LIMITS], grounded)
    assert offered(proposals, LIMITS, grounded)[1] != actions


def test_no_draft_waits_for_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, in_time = threading.Event(), []

    def slow(model: object, limit_bytes: int) -> float:
        in_time.append(may_end.wait(20))
        return 1.0

    monkeypatch.setattr(proposals_module, "bound_seconds", slow)
    proposals = made()
    proposals.begin([LIMITS, SWAPLESS], NO_LESSONS)
    proposals.offer(Best(LIMITS), NO_LESSONS, lambda numbers, hold_for: [])
    proposals.offer(Best(SWAPLESS), NO_LESSONS, lambda numbers, hold_for: [])
    may_end.set()
    assert proposals.bound(LIMITS) == 1.0
    assert in_time == [True]


def test_what_was_begun_and_is_not_needed_is_dropped() -> None:
    proposals = made()
    proposals.begin([LIMITS, SWAPLESS], NO_LESSONS)
    proposals.end()
    assert offered(proposals, LIMITS) == offered(made(), LIMITS)
