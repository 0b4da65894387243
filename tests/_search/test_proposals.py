"""The linear model is solved before its drafts are asked for, with the same result."""

import numpy as np
import pytest
from handmade import MIB, chain, rates

from jaxswap._search import proposals as proposals_module
from jaxswap._search.best import Best
from jaxswap._search.candidates import find_candidates
from jaxswap._search.lessons import NO_LESSONS
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


def offered(proposals: Proposals, limits: Limits) -> tuple[float, list[bytes]]:
    """The bound, and all actions that are laid out."""
    found: list[bytes] = []

    def lay_out(numbers: np.ndarray, hold_for: int) -> list[object]:
        found.append(numbers.tobytes())
        return []

    bound = proposals.offer(Best(limits), NO_LESSONS, lay_out)  # type: ignore[arg-type]
    return bound, found


@pytest.mark.parametrize("limits", [LIMITS, SWAPLESS])
def test_what_was_begun_leads_to_the_same_proposals(limits: Limits) -> None:
    begun, other = made(), made()
    begun.begin([SWAPLESS, LIMITS], NO_LESSONS)
    bound, actions = offered(begun, limits)
    assert actions
    assert (bound, actions) == offered(other, limits)


def test_what_was_begun_is_not_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[int] = []
    solve = proposals_module.bound_seconds

    def counted(model: object, limit_bytes: int) -> float:
        solved.append(limit_bytes)
        return solve(model, limit_bytes)  # type: ignore[arg-type]

    monkeypatch.setattr(proposals_module, "bound_seconds", counted)
    proposals = made()
    proposals.begin([LIMITS], NO_LESSONS)
    offered(proposals, LIMITS)
    assert solved == [LIMITS.device_bytes]
    offered(proposals, LIMITS)
    assert len(solved) == 2


def test_what_was_begun_and_is_not_needed_is_dropped() -> None:
    proposals = made()
    proposals.begin([LIMITS, SWAPLESS], NO_LESSONS)
    proposals.end()
    assert offered(proposals, LIMITS) == offered(made(), LIMITS)
