"""What was sketched before is not sketched again, and counts all the same."""

import dataclasses

import numpy as np
from handmade import MIB, chain, rates

from jaxswap._graph.graph import Action
from jaxswap._schedule.decision import Decision
from jaxswap._schedule.timing import Timing
from jaxswap._search.sketches import SketchMemory
from jaxswap._simulate.draft import Arranger
from jaxswap._sketch.sketch import Sketch, Sketcher, codes

GRAPH = chain(3)
SWAPPED = codes([Action.OFFLOAD] * len(GRAPH.values))
KEPT = codes([Action.KEEP] * len(GRAPH.values))


class Counted(Sketcher):
    """A sketcher that notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__(Arranger(GRAPH, rates(), MIB))
        self.asked = 0

    def sketch(self, *args: object, **options: object) -> Sketch:
        self.asked += 1
        return super().sketch(*args, **options)  # type: ignore[arg-type]

    def follow(self, decision: Decision) -> Sketch:
        self.asked += 1
        return super().follow(decision)


def asked(
    sketches: SketchMemory,
    numbers: np.ndarray,
    limit: int = 0,
    *,
    in_place: bool = False,
) -> Sketch:
    options = {"patience": 1.0, "eager": (), "hold_for": 0, "in_place": in_place}
    return sketches.sketch(numbers, limit, **options)  # type: ignore[arg-type]


def test_equal_questions_are_answered_once_and_counted_each_time() -> None:
    sketcher = Counted()
    sketches = SketchMemory(sketcher)
    first = asked(sketches, SWAPPED)
    assert asked(sketches, SWAPPED.copy()) is first
    assert sketcher.asked == 1
    assert sketches.count == sketcher.count + 1


def test_other_actions_and_other_limits_are_other_questions() -> None:
    sketcher = Counted()
    sketches = SketchMemory(sketcher)
    for numbers, limit in ((SWAPPED, 0), (KEPT, 0), (SWAPPED, 1 << 40)):
        found = asked(sketches, numbers, limit)
        assert found.seconds == sketcher.sketch(numbers, limit).seconds
    assert sketcher.asked == 6
    asked(sketches, SWAPPED, in_place=True)
    assert sketcher.asked == 7


def test_all_but_sketches_of_policies_are_forgotten() -> None:
    sketcher = Counted()
    sketches = SketchMemory(sketcher)
    decision = Decision((Action.OFFLOAD,) * len(GRAPH.values), Timing())
    other = dataclasses.replace(decision, timing=Timing(swapin_ahead=2))
    followed = sketches.follow(decision)
    found = asked(sketches, SWAPPED)
    sketches.forget()
    assert sketches.follow(decision) is followed
    assert sketches.follow(other) is not followed
    assert asked(sketches, SWAPPED) is not found
    assert sketcher.asked == 4
