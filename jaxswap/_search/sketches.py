"""Actions -> their `Sketch`, made once.

A search asks for many of them twice: changes undo each other, and a descent begins
where another one ended.
"""

from collections.abc import Collection

import numpy as np

from jaxswap._schedule.decision import Decision
from jaxswap._schedule.timing import Timing
from jaxswap._sketch.sketch import Sketch, Sketcher, codes

Key = tuple[bytes, int, float, frozenset[int], int, bool]
"""Actions, a limit of memory, a patience, eager values, how long to hold, and whether
results may be written in place."""


class SketchMemory:
    """The sketches of one program that were asked for.

    Args:
        sketcher: Makes them.
    """

    def __init__(self, sketcher: Sketcher) -> None:
        self._sketcher = sketcher
        self._found: dict[Key, Sketch] = {}
        self._followed: dict[tuple[bytes, Timing], Sketch] = {}
        self._saved = 0

    @property
    def count(self) -> int:
        """How many were asked for, those included that were known."""
        return self._sketcher.count + self._saved

    def sketch(
        self,
        numbers: np.ndarray,
        limit_bytes: int,
        *,
        patience: float,
        eager: Collection[int],
        hold_for: int,
        in_place: bool,
    ) -> Sketch:
        """Sketch actions, as `Sketcher.sketch` does, or find the sketch of before."""
        how = (patience, frozenset(eager), hold_for, in_place)
        key = (numbers.tobytes(), limit_bytes, *how)
        found = self._found.get(key)
        if found is not None:
            self._saved += 1
            return found
        found = self._sketcher.sketch(
            numbers,
            limit_bytes,
            patience=patience,
            eager=eager,
            hold_for=hold_for,
            in_place=in_place,
        )
        self._found[key] = found
        return found

    def follow(self, decision: Decision) -> Sketch:
        """Sketch what a policy decided, or find the sketch of before."""
        key = (codes(decision.actions).tobytes(), decision.timing)
        found = self._followed.get(key)
        if found is not None:
            self._saved += 1
            return found
        found = self._followed[key] = self._sketcher.follow(decision)
        return found

    def forget(self) -> None:
        """Let go of all but the sketches of policies: they would fill the memory."""
        self._found.clear()
