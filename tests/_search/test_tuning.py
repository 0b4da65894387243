"""A policy in place of the planner's choice: decided or tuned, then compiled once."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from handmade import MIB, chain, results_of
from handmade_plans import H100, busy

from jaxswap._gpu.target import rates_of
from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.decision import Decision, Tunable
from jaxswap._schedule.lms import LMS
from jaxswap._schedule.timing import Timing
from jaxswap._search.attempt import Refined, Task
from jaxswap._search.limits import Limits
from jaxswap._search.measured import Measured
from jaxswap._search.tuning import tune
from jaxswap._simulate.draft import Arranger, Draft
from jaxswap._sketch.sketch import Sketcher
from jaxswap.policies import FullRemat, SwapEverything, TFLMSv2

GRAPH = busy(chain(6))


class Simulated:
    """What tuning uses of a search: the simulator, and the draft that keeps all."""

    def __init__(self) -> None:
        self.arranger = Arranger(GRAPH, rates_of(H100), MIB)
        keep = [Action.KEEP] * len(GRAPH.values)
        self.kept = self.arranger.draft(keep, ())
        self.sketcher = Sketcher(self.arranger)


SEARCH: Any = Simulated()
KEPT_BYTES = SEARCH.kept.timeline.device_bytes


def program(device_bytes: int) -> Measured:
    """What is read from a compiled program."""
    return Measured(
        device_bytes=device_bytes,
        temp_bytes=1,
        host_bytes=2,
        fragmented_bytes=2,
        swapped_bytes=3,
        exposed_bytes=3,
    )


def bytes_of(decision: Decision) -> int:
    return SEARCH.arranger.follow(decision).timeline.device_bytes


def run(policy: Any, limit: int, compile_: Any = None) -> tuple[Refined, list[str]]:
    lines: list[str] = []
    task = Task(Limits(limit), 8, 3.0, 1e9, 1.0)
    return tune(SEARCH, policy, task, compile_, lines.append), lines


def test_policy_without_dials_is_followed() -> None:
    needed = bytes_of(SwapEverything().decide(GRAPH))
    assert needed < KEPT_BYTES
    for limit, fits in ((needed, True), (needed - 1, False)):
        refined, lines = run(SwapEverything(), limit)
        assert refined.fits is fits
        assert refined.draft.timeline.device_bytes == needed
        assert refined.draft.actions == SwapEverything().decide(GRAPH).actions
        assert refined.compiled is None
        assert refined.correction_bytes == 0
        assert not lines


@dataclasses.dataclass
class Recording:
    """A policy that asks the simulator about two decisions."""

    asked: list[bool] = dataclasses.field(default_factory=list)

    def decide(self, graph: Graph) -> Decision:
        raise AssertionError("a policy with dials is tuned")

    def tune(self, graph: Graph, fits: Callable[[Decision], bool]) -> Decision:
        assert graph is GRAPH
        keep = Decision((Action.KEEP,) * len(graph.values), Timing())
        swap = LMS().decide(graph)
        self.asked = [fits(keep), fits(swap)]
        return swap


@pytest.mark.parametrize(
    ("limit", "answers"),
    [
        (KEPT_BYTES, [True, True]),
        (KEPT_BYTES - 1, [False, True]),
        (bytes_of(LMS().decide(GRAPH)) - 1, [False, False]),
    ],
)
def test_policy_with_dials_is_given_the_simulator(
    limit: int, answers: list[bool]
) -> None:
    policy = Recording()
    refined, _ = run(policy, limit)
    assert policy.asked == answers
    assert refined.fits is answers[1]
    assert refined.draft.swaps == SEARCH.arranger.follow(LMS().decide(GRAPH)).swaps


def test_what_has_dials_is_told_from_what_has_none() -> None:
    assert isinstance(TFLMSv2(), Tunable)
    assert not isinstance(LMS(), Tunable)


def test_tuned_to_the_kept_program_tflms_swaps_nothing_and_below_it_does() -> None:
    assert not run(TFLMSv2(), KEPT_BYTES)[0].draft.swaps
    refined, _ = run(TFLMSv2(), KEPT_BYTES - 64 * MIB)
    assert refined.fits
    assert refined.draft.swaps
    # The largest distance that fits: no more leaves than must.
    tanh = results_of(GRAPH, "tanh")
    assert {swap.value for swap in refined.draft.swaps} < set(tanh)
    most, _ = run(TFLMSv2(), 0)
    assert not most.fits
    assert len(most.draft.swaps) > len(refined.draft.swaps)


def test_plan_of_a_policy_is_compiled_once_and_the_program_decides() -> None:
    needed = bytes_of(SwapEverything().decide(GRAPH))
    compiled: list[Draft] = []

    def compile_(draft: Draft) -> Measured:
        compiled.append(draft)
        return program(needed + 9)

    for limit, fits in ((needed + 9, True), (needed + 8, False)):
        compiled.clear()
        refined, lines = run(SwapEverything(), limit, compile_)
        assert refined.fits is fits
        assert compiled == [refined.draft]
        assert refined.correction_bytes == 9
        seen = refined.compiled
        assert seen is not None
        assert (seen.predicted_device_bytes, seen.device_bytes) == (needed, needed + 9)
        assert (seen.temp_bytes, seen.host_bytes) == (1, 2)
        assert (seen.swapped_bytes, seen.exposed_bytes) == (3, 3)
        assert seen.compile_count == 1
        assert any(line.startswith("compiling a plan of") for line in lines)


def test_bound_is_no_slower_than_the_plan_nor_than_keeping_everything() -> None:
    refined, _ = run(FullRemat(), KEPT_BYTES)
    assert refined.bound_seconds == SEARCH.kept.timeline.seconds
    assert refined.bound_seconds < refined.draft.timeline.seconds
