"""A loop, split into segments of iterations that run in different ways.

Each segment is a loop of its own. The carry goes from one to the next. Scanned arrays
are cut, and results are joined. The gradients of constants are added up through all
segments, in the order in which JAX adds them.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxswap import _compat
from jaxswap._run.repeated import Repeated, Saved, groups, zeros


@dataclasses.dataclass(frozen=True)
class Part:
    """One segment.

    Attributes:
        loop: Runs it, step by step.
        count: How many iterations it has.
        block: How many iterations are a step. 1: steps are single iterations.
    """

    loop: Repeated
    count: int
    block: int

    def cut(self, array: Any, start: int) -> Any:
        """Return the slices of the steps, from those of all iterations of the loop."""
        if len(array) != self.count:
            array = lax.slice_in_dim(array, start, start + self.count)
        if self.block == 1:
            return array
        return array.reshape(-1, self.block, *array.shape[1:])

    def flat(self, array: Any) -> Any:
        """Return the slices of the iterations, from those of the steps."""
        return array if self.block == 1 else array.reshape(-1, *array.shape[2:])


@dataclasses.dataclass(frozen=True)
class Segments:
    """Both passes of a loop.

    Attributes:
        scan: The loop.
        parts: Its segments, in the order in which they are executed.
    """

    scan: _compat.Scan
    parts: tuple[Part, ...]

    @property
    def wanted(self) -> Sequence[bool]:
        """For each operand, whether its gradient is wanted."""
        return self.parts[0].loop.step.wanted

    def run_forward(
        self, operands: Sequence[Any]
    ) -> tuple[list[Any], tuple[Saved, ...]]:
        """Run the loop. Return its results and what the backward loops need."""
        consts, carry, xs = groups(self.scan, operands)
        count = len(carry)
        saved: list[Saved] = []
        pieces: list[list[Any]] = []
        for part, start in zip(self.parts, self._starts(), strict=True):
            given = (*consts, *carry, *(part.cut(x, start) for x in xs))
            results, of_part = part.loop.run_forward(given)
            carry = results[:count]
            saved.append(of_part)
            pieces.append([part.flat(y) for y in results[count:]])
        return [*carry, *self._joined(pieces)], tuple(saved)

    def run_backward(
        self,
        types: Sequence[Any],
        saved: Sequence[Saved],
        cotangents: Sequence[Any],
        sums: dict[int, Any] | None = None,
    ) -> list[Any]:
        """Run the loop backwards. Return a gradient or `None` for each operand.

        Args:
            types: Those of the operands.
            saved: From `run_forward`.
            cotangents: One for each result. `None` stands for zero.
            sums: What the gradients of constants are added to, by position. `None`:
                zeros.
        """
        const_types, carry_types, _ = groups(self.scan, types)
        wanted, _, _ = groups(self.scan, self.wanted)
        if sums is None:
            sums = {i: zeros(t) for i, t in enumerate(const_types) if wanted[i]}
        count = len(carry_types)
        of_carry, of_ys = cotangents[:count], cotangents[count:]
        pieces: list[list[Any]] = []
        rows = list(zip(self.parts, self._starts(), saved, strict=True))
        for part, start, of_part in reversed(rows):
            now = [None if c is None else part.cut(c, start) for c in of_ys]
            gradients = part.loop.run_backward(types, of_part, [*of_carry, *now], sums)
            of_consts, of_carry, of_xs = groups(self.scan, gradients)
            sums = {i: of_consts[i] for i in sums}
            pieces.append([None if x is None else part.flat(x) for x in of_xs])
        of_consts = [sums.get(i) for i in range(len(const_types))]
        return [*of_consts, *of_carry, *self._joined(pieces[::-1])]

    def _starts(self) -> list[int]:
        """Return where the slices of each segment begin."""
        ends = list(itertools.accumulate(part.count for part in self.parts))
        if self.scan.reverse:
            return [self.scan.length - end for end in ends]
        return [0, *ends[:-1]]

    def _joined(self, pieces: Sequence[Sequence[Any]]) -> list[Any]:
        """Join what the segments made, given in the order in which they ran."""
        in_place = pieces[::-1] if self.scan.reverse else pieces
        return [
            None
            if parts[0] is None
            else parts[0]
            if len(parts) == 1
            else jnp.concatenate(parts)
            for parts in zip(*in_place, strict=True)
        ]
