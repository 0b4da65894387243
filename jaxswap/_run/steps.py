"""What a loop repeats in both of its passes: one iteration, or a block of iterations.

A step is numbered like a traced program: each of its operands and results is a value.
So the loop around it stores and swaps values, whatever the step is.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import jax

from jaxswap import _compat
from jaxswap._graph.graph import Action, Graph, Segment
from jaxswap._run.machine import Machine, Residuals
from jaxswap._run.narrowing import Narrowed, leaving
from jaxswap._schedule.issue import schedule_body
from jaxswap._trace.describe import Traced
from jaxswap._trace.jaxpr import Interpreter


class Step(Protocol):
    """What a loop repeats."""

    @property
    def operands(self) -> Sequence[int]:
        """Its operands: constants, carry, slices."""
        ...

    @property
    def results(self) -> Sequence[Any]:
        """Its results: the next carry, then slices. Not all are values."""
        ...

    @property
    def stored(self) -> Sequence[int]:
        """The values that its backward pass reads."""
        ...

    @property
    def swapped(self) -> Sequence[int]:
        """Those of them that the loop swaps."""
        ...

    @property
    def wanted(self) -> Sequence[bool]:
        """For each operand, whether its gradient is wanted."""
        ...

    def type_of(self, value: int) -> Any:
        """Return the type of a value that is swapped."""
        ...

    def narrowed(self, value: int, array: Any) -> Narrowed:
        """Return what leaves of a value, and the scale that stays."""
        ...

    def label_of(self, value: int) -> str:
        """Return a name for the copies of a value."""
        ...

    def forward(self, operands: Sequence[Any]) -> tuple[list[Any], dict[int, Any]]:
        """Return the results, and what the backward pass reads, by value."""
        ...

    def backward(
        self, stored: dict[int, Any], cotangents: Sequence[Any], sums: dict[int, Any]
    ) -> list[Any]:
        """Return the gradient of each operand. `None` if it is not wanted.

        Args:
            stored: What the backward pass reads, by value.
            cotangents: One for each result. `None` stands for zero.
            sums: The gradients of constants so far, by position. Those of this step are
                added, in the order in which JAX adds them.
        """
        ...


class Iteration:
    """One iteration, as the actions of its values say.

    Args:
        traced: The loop's body.
        actions: One for each value of the body.
    """

    def __init__(self, traced: Traced, actions: Sequence[Action]) -> None:
        schedule, swapped = schedule_body(traced.graph, actions)
        self._machine = Machine(traced, schedule)
        self.operands = traced.program.operands
        self.results = traced.program.outputs
        self.stored = schedule.device_residuals
        self.swapped = swapped
        self.wanted = tuple(v is not None for v in traced.program.gradients)

    def narrowed(self, value: int, array: Any) -> Narrowed:
        """See `Step`."""
        graph = self._machine.graph
        return leaving(graph.values[value], graph.compress, array)

    def type_of(self, value: int) -> Any:
        """See `Step`."""
        return self._machine.program.avals[value]

    def label_of(self, value: int) -> str:
        """See `Step`."""
        return self._machine.graph.values[value].scope_label

    def forward(self, operands: Sequence[Any]) -> tuple[list[Any], dict[int, Any]]:
        """See `Step`."""
        outputs, residuals = self._machine.forward(operands)
        return outputs, residuals.device

    def backward(
        self, stored: dict[int, Any], cotangents: Sequence[Any], sums: dict[int, Any]
    ) -> list[Any]:
        """See `Step`."""
        gradients = self._machine.backward(Residuals(stored, {}), cotangents)
        for i, before in sums.items():
            gradients[i] = before + gradients[i]
        return gradients


class Both(Protocol):
    """Both passes of a loop. See `segments.Segments`."""

    @property
    def wanted(self) -> Sequence[bool]:
        """For each operand, whether its gradient is wanted."""
        ...

    def run_forward(self, operands: Sequence[Any]) -> tuple[list[Any], Any]:
        """Return the results, and what the backward pass needs."""
        ...

    def run_backward(
        self,
        types: Sequence[Any],
        saved: Any,
        cotangents: Sequence[Any],
        sums: dict[int, Any] | None,
    ) -> list[Any]:
        """Return the gradients."""
        ...


class Block:
    """Some iterations, of which only what they begin with is stored.

    Args:
        scan: These iterations, as a loop.
        again: Both passes of this loop, for when it is run again.
        body: Its body.
        segment: Says which parts of the carry are swapped.
    """

    def __init__(
        self, scan: _compat.Scan, again: Both, body: Graph, segment: Segment
    ) -> None:
        self._scan = scan
        self._again = again
        jaxpr, _ = _compat.open_jaxpr(scan.jaxpr)
        self._types = [v.aval for v in jaxpr.invars]
        count = len(self._types)
        self.operands = self.stored = tuple(range(count))
        self.results = tuple(range(count, count + len(jaxpr.outvars)))
        self.swapped = tuple(
            scan.const_count + i
            for i, v in enumerate(body.carried)
            if segment.actions[v] is Action.OFFLOAD and body.values[v].nbytes
        )
        self.wanted = again.wanted
        self._body = body

    def narrowed(self, value: int, array: Any) -> Narrowed:
        """See `Step`."""
        carried = self._body.carried[value - self._scan.const_count]
        return leaving(self._body.values[carried], self._body.compress, array)

    def type_of(self, value: int) -> Any:
        """See `Step`."""
        return self._types[value]

    def label_of(self, value: int) -> str:
        """See `Step`."""
        del value
        return "carry"

    def forward(self, operands: Sequence[Any]) -> tuple[list[Any], dict[int, Any]]:
        """See `Step`."""
        return run_plain(self._scan, operands), dict(enumerate(operands))

    def backward(
        self, stored: dict[int, Any], cotangents: Sequence[Any], sums: dict[int, Any]
    ) -> list[Any]:
        """See `Step`."""
        operands = [stored[i] for i in self.operands]
        types = [jax.typeof(x) for x in operands]
        _, saved = self._again.run_forward(operands)
        return self._again.run_backward(types, saved, cotangents, sums)


def run_plain(scan: _compat.Scan, operands: Sequence[Any]) -> list[Any]:
    """Run a loop without its gradient."""
    first = scan.const_count
    last = first + scan.carry_count
    consts = operands[:first]

    def iteration(carry: Any, slices: Any) -> Any:
        outputs = Interpreter().run_closed(scan.jaxpr, (*consts, *carry, *slices))
        return tuple(outputs[: len(carry)]), tuple(outputs[len(carry) :])

    end, ys = jax.lax.scan(
        iteration,
        tuple(operands[first:last]),
        tuple(operands[last:]),
        length=scan.length,
        reverse=scan.reverse,
    )
    return [*end, *ys]
