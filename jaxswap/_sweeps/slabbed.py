"""A traced program -> the same program, with sweeps in place of what runs by slabs.

A sweep is one operation of the new program. It reads and makes values that the old
program has, too. So the new one is planned and executed as any other.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence

from jaxswap._slabs.facts import facts_of
from jaxswap._slabs.frame import Frame, Kind
from jaxswap._slabs.grid import Grid
from jaxswap._slabs.hosted import Margins, margins_of, swapped_values
from jaxswap._slabs.levels import Levels, levels_of
from jaxswap._slabs.slabs import Slabs
from jaxswap._slabs.storing import Storage
from jaxswap._slabs.sweeps import Sweep, Sweeping
from jaxswap._sweeps.described import Described, Reason, described
from jaxswap._sweeps.emission import operation_of
from jaxswap._sweeps.known_places import with_known_places
from jaxswap._sweeps.lines import lines_of
from jaxswap._sweeps.moments import with_moments
from jaxswap._sweeps.opening import with_operations, without_barriers, without_calls
from jaxswap._sweeps.places import with_places
from jaxswap._trace.program import Operation, Program

Swap = Callable[[Frame, Grid, Sequence[Sweep]], Collection[int]]
"""Tells which values lie in host memory, of those that can."""
Store = Callable[[Frame, Levels, Grid], Collection[int]]
"""Tells which values the sweeps store. All others are computed again where needed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Slabbed:
    """A program by slabs.

    Attributes:
        program: The program with sweeps.
        described: The program without them, as numbers.
        grid: How the axis is cut.
        sweeps: The sweeps.
        levels: When each operation runs.
        margins: The values in host memory, and their planes beyond both ends.
    """

    program: Program
    described: Described
    grid: Grid
    sweeps: tuple[Sweep, ...]
    levels: Levels
    margins: Mapping[int, Margins]

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why operations on sliced values run on whole arrays."""
        return self.described.reasons


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A program that is to run by slabs, however many there are, and what they store.

    Attributes:
        described: The program, as numbers.
        levels: When each operation runs.
    """

    described: Described
    levels: Levels
    _storages: dict[Grid, Storage] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls, program: Program, slabs: Slabs, axes: Mapping[int, int] | None = None
    ) -> Prepared:
        """Find out how a program meets the axis; arguments and errors as `by_slabs`."""
        if program.placement is not None:
            raise NotImplementedError(
                "`slabs` is given, and arguments are split over several devices. Slabs "
                "run on one device only."
            )
        opened = with_known_places(without_calls(program))
        axis = None if isinstance(slabs.axis, tuple) else slabs.axis
        lines, length = lines_of(opened, axes or {}, axis)
        opened = with_moments(without_barriers(opened, lines), lines)
        opened = with_places(opened, lines)
        seen = described(opened, lines, length, slabs.levels)
        return cls(seen, levels_of(seen.frame))

    def storage(self, count: int, *, in_pairs: bool) -> Storage:
        """Return what sweeps over so many slabs store.

        Args:
            count: How many slabs are wanted.
            in_pairs: Whether their number is even, so that values may lie in host
                memory.
        """
        grid = self.described.grid(count, in_pairs=in_pairs)
        if grid not in self._storages:
            frame = self.described.frame
            self._storages[grid] = Storage(Sweeping(frame, self.levels, grid))
        return self._storages[grid]

    def cut(
        self, slabs: Slabs, store: Store | None = None, swap: Swap | None = None
    ) -> Slabbed:
        """Return the program by slabs; arguments as `by_slabs`."""
        in_pairs = swap is not None or bool(slabs.swapped)
        storage = self.storage(slabs.count, in_pairs=in_pairs)
        sweeping, seen, order = storage.sweeping, self.described, self.levels
        frame, grid = sweeping.frame, sweeping.grid
        if store is None:
            stored: Collection[int] = storage.stored(slabs.recomputed or 0)
        else:
            stored = store(frame, order, grid)
        sweeps = sweeping.sweeps(stored)
        swap = swap or functools.partial(swapped_values, swapped=slabs.swapped or 0)
        margins = margins_of(frame, grid, sweeps, swap(frame, grid, sweeps))
        seen = seen.in_host_memory(margins)
        operations, became = _interleaved(seen, order, sweeps, grid, margins)
        names = [op.scope or op.eqn.primitive.name for op in seen.program.operations]
        facts = facts_of(frame, grid, sweeps, names, map(str, seen.reasons))
        avals = (*seen.program.avals, *(seen.program.avals[v] for v in became))
        changed = dataclasses.replace(
            seen.program, avals=avals, slabs=slabs, slab_facts=facts
        )
        by_sweeps = with_operations(changed, operations, became)
        return Slabbed(by_sweeps, seen, grid, sweeps, order, margins)


def by_slabs(
    program: Program,
    slabs: Slabs,
    axes: Mapping[int, int] | None = None,
    store: Store | None = None,
    swap: Swap | None = None,
) -> Slabbed:
    """Turn a program into one that computes its finest values slab by slab.

    Args:
        program: Forward and backward pass, on one device.
        slabs: How the program is cut.
        axes: The dimension to slice of some values. If none is named, the largest
            convolution tells the axis.
        store: Which values the sweeps store, in place of what `slabs` says.
        swap: Which of them lie in host memory, in place of what `slabs` says.

    Raises:
        NotImplementedError: If the program runs on several devices.
        ValueError: If nothing tells the axis.
    """
    return Prepared.of(program, slabs, axes).cut(slabs, store, swap)


def _interleaved(
    seen: Described,
    order: Levels,
    sweeps: tuple[Sweep, ...],
    grid: Grid,
    margins: Mapping[int, Margins],
) -> tuple[list[Operation], dict[int, int]]:
    """Put each sweep behind the operations on whole arrays that it may read from.

    A sweep begins when the gradients are there that these operations make. XLA would
    compute them last of all, and hold what they are made of until then.

    Returns:
        The operations, and the values that these gradients are behind the sweeps.
    """
    steps, operations = seen.frame.steps, seen.program.operations
    whole: dict[int, list[Operation]] = {}
    for index, operation in enumerate(operations):
        if steps[index].kind is Kind.WHOLE:
            whole.setdefault(order.steps[index], []).append(operation)
    by_level = {sweep.level: sweep for sweep in sweeps}
    gradients = {v for v in seen.program.gradients if isinstance(v, int)}
    found: list[Operation] = []
    became: dict[int, int] = {}
    made: list[int] = []
    for level in range(order.count):
        found += whole.get(level, [])
        made += [v for op in whole.get(level, []) for v in op.outputs if v in gradients]
        if level in by_level:
            first = len(seen.program.avals) + len(became)
            awaited = {v: first + place for place, v in enumerate(made)}
            became.update(awaited)
            found.append(operation_of(seen, by_level[level], grid, margins, awaited))
            made = []
    return found, became
