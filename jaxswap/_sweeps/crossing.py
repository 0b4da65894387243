"""Copies between device and host that run beside the heavy operations of a slab.

XLA decides when a copy starts and when it is waited for. Barriers leave it no choice: a
copy reads what the barrier before its heavy operation gave, and the barrier behind the
operation waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jax import lax


@dataclass
class Copy:
    """One copy, of a window from the host or of a slab to the host.

    Attributes:
        start: Copies. It takes `whole`, and `slab` if there is one.
        whole: The array in host memory. When a slab has been written, the new one.
        slab: The slab that leaves. `None` if a window comes.
        window: The window that came.
    """

    start: Callable[..., Any]
    whole: Any
    slab: Any = None
    window: Any = None

    def run(self) -> None:
        """Start the copy. What it makes is there behind the next barrier."""
        if self.slab is None:
            self.window = self.start(self.whole)
        else:
            self.whole, self.slab = self.start(self.whole, self.slab), None

    @property
    def arrays(self) -> list[Any]:
        """What a barrier takes."""
        return [self.whole, self.slab, self.window]

    def pass_barrier(self, arrays: Sequence[Any]) -> None:
        """Go on with what a barrier gave for `arrays`."""
        self.whole, self.slab, self.window = arrays


class Crossing:
    """Copies, some of them beside each heavy operation.

    Args:
        copies: The copies. They hold what they made when all operations have run.
        heavy: The heavy operations, in order.
    """

    def __init__(self, copies: Sequence[Copy], heavy: Sequence[int]) -> None:
        self._copies = copies
        self._waiting = list(copies)
        self._beside: dict[int, list[Copy]] = {}
        for place, copy in enumerate(copies if heavy else ()):
            operation = heavy[place * len(heavy) // len(copies)]
            self._beside.setdefault(operation, []).append(copy)

    def beside(self, operation: int, run: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        """Run an operation, with its copies if it has any."""
        if operation not in self._beside:
            return run()
        for copy in self._beside[operation]:
            self._start(copy)
        arrays = [copy.arrays for copy in self._copies]
        results, arrays = lax.optimization_barrier((list(run()), arrays))
        for copy, given in zip(self._copies, arrays, strict=True):
            copy.pass_barrier(given)
        return results

    def end(self) -> None:
        """Start the copies that no operation runs beside."""
        while self._waiting:
            self._start(self._waiting[0])

    def _start(self, copy: Copy) -> None:
        self._waiting.remove(copy)
        copy.run()
