"""Loops -> loops that store, swap and recompute inside their bodies.

The body of a loop is traced as a program of its own. Each of its values is kept,
swapped or recomputed, in all iterations alike or in segments of them.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import JaxprEqn

from jaxswap import _compat
from jaxswap._graph.graph import Action, DecideLoop, Inside, Loop
from jaxswap._run.repeated import Repeated
from jaxswap._run.segments import Part, Segments
from jaxswap._run.steps import Block, Iteration, Step
from jaxswap._trace.describe import Traced, graph_of
from jaxswap._trace.jaxpr import Interpreter
from jaxswap._trace.opening import Opened, is_as_written
from jaxswap._trace.symbolic import NO_SIZES, Sizes, sized, symbols_of
from jaxswap._trace.tangents import differentiate, has_tangent, reached, with_zeros
from jaxswap._trace.tracing import trace


class Loops:
    """Executes the loops of a function that is being traced, and notes the decisions.

    Attributes:
        decide: Decides how the iterations of a loop run.
        inside: How values in `jax.checkpoint` and in branches are treated.
        sizes: What symbolic dimensions count as.
        compress: The type to which values are rounded when they leave, or `""`.
        found: The loops that were decided on, in the order of tracing.
    """

    def __init__(
        self,
        decide: DecideLoop,
        inside: Inside = Inside.AS_WRITTEN,
        sizes: Sizes = NO_SIZES,
        compress: str = "",
    ) -> None:
        self.decide = decide
        self.inside = inside
        self.sizes = sizes
        self.compress = compress
        self.found: list[Loop] = []

    def __call__(self, eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
        """Execute a loop, with a gradient that follows the decision on its body."""
        scan = _compat.scan_of(eqn)
        assert scan is not None

        def plain(*operands: Any) -> Sequence[Any]:
            return _compat.bind_equation(eqn, operands)

        def forward(*primals: Any) -> Any:
            operands = [p.value for p in primals]
            perturbed = [p.perturbed and has_tangent(p.value) for p in primals]
            segments = self._segments(scan, perturbed)
            if segments is None:
                return _run_plain(plain, operands, perturbed)
            if scan.unroll != 1:
                warnings.warn(
                    f"the loop at {_compat.source_line(eqn)} with unroll={scan.unroll} "
                    "swaps or recomputes in its body, so it is not unrolled: XLA "
                    "cannot compile unrolled loops that copy to the host.",
                    stacklevel=1,
                )
            outputs, saved = segments.run_forward(operands)
            types = [jax.typeof(x) for x in operands]

            def pullback(saved: Any, cotangents: Sequence[Any]) -> list[Any]:
                return segments.run_backward(types, saved, cotangents)

            return outputs, jax.tree_util.Partial(pullback, saved)

        def backward(pullback: Any, cotangents: Sequence[Any]) -> Any:
            given = [None if isinstance(c, SymbolicZero) else c for c in cotangents]
            return tuple(pullback(given))

        is_symbolic = bool(symbols_of(scan.length))
        if is_symbolic or scan.length < 2 or eqn.effects:
            return plain(*inputs)
        call = jax.custom_vjp(plain)
        call.defvjp(forward, backward, symbolic_zeros=True)
        return call(*inputs)

    def _segments(
        self, scan: _compat.Scan, perturbed: Sequence[bool]
    ) -> Segments | None:
        """Trace one iteration and decide. `None` if everything is kept, as in JAX."""
        traced, is_as_in_jax = self._traced(scan, perturbed)
        loop, segments = self._decided(scan, traced)
        self.found.append(loop)
        is_kept = all(
            action is Action.KEEP
            for segment in loop.segments
            for action in segment.actions
        )
        is_whole = len(loop.segments) == 1 and loop.segments[0].block == 1
        return None if is_as_in_jax and is_kept and is_whole else segments

    def _traced(
        self, scan: _compat.Scan, perturbed: Sequence[bool]
    ) -> tuple[Traced, bool]:
        """Trace one iteration. Return also whether what it holds runs as in JAX."""
        jaxpr, consts = _compat.open_jaxpr(scan.jaxpr)
        inner = Loops(self.decide, self.inside, self.sizes, self.compress)

        def iteration(*operands: Any) -> Sequence[Any]:
            return Opened(inner, self.inside).run(jaxpr, (*consts, *operands))

        types = [v.aval for v in jaxpr.invars]
        program = trace(
            iteration,
            types,
            _perturbed(scan, types, perturbed),
            [atom.aval for atom in jaxpr.outvars],
            inner.found,
        )
        program = dataclasses.replace(program, compress=self.compress)
        first, last = scan.const_count, scan.const_count + scan.carry_count
        carried, sliced = program.operands[first:last], program.operands[last:]
        twin = sized(program, self.sizes)
        graph = graph_of(twin, carried, sliced, scan.length)
        is_as_in_jax = is_as_written(jaxpr, self.inside) and not inner.found
        return Traced(program, graph), is_as_in_jax

    def _decided(self, scan: _compat.Scan, traced: Traced) -> tuple[Loop, Segments]:
        """Decide how the iterations of a loop run, those of its blocks included."""
        graph = dataclasses.replace(traced.graph, trip_count=scan.length)
        parts: list[Part] = []
        blocks: list[Loop] = []
        segments = self.decide(graph)
        for segment in segments:
            step: Step
            if segment.block == 1:
                step = Iteration(traced, segment.actions)
            else:
                part = dataclasses.replace(scan, length=segment.block)
                block, again = self._decided(part, traced)
                blocks.append(block)
                step = Block(part, again, traced.graph, segment)
            count = segment.count // segment.block
            repeated = Repeated(dataclasses.replace(scan, length=count), step)
            parts.append(Part(repeated, segment.count, segment.block))
        return Loop(graph, segments, tuple(blocks)), Segments(scan, tuple(parts))


def _run_plain(
    plain: Callable[..., Sequence[Any]],
    operands: Sequence[Any],
    perturbed: Sequence[bool],
) -> Any:
    """Leave a loop and its gradient to JAX."""
    wanted = [i for i, p in enumerate(perturbed) if p]
    outputs, pullback = differentiate(plain, operands, wanted)
    types = [jax.typeof(x) for x in outputs]

    def by_jax(pullback: Any, cotangents: Sequence[Any]) -> list[Any]:
        found = dict(zip(wanted, pullback(with_zeros(cotangents, types)), strict=True))
        return [found.get(i) for i in range(len(perturbed))]

    return outputs, jax.tree_util.Partial(by_jax, pullback)


def _perturbed(
    scan: _compat.Scan, types: Sequence[Any], perturbed: Sequence[bool]
) -> tuple[bool, ...]:
    """Return for each operand of a body whether it depends on a differentiated one.

    A carry does if it depends on one in any iteration.
    """

    def body(*operands: Any) -> Sequence[Any]:
        return Interpreter().run_closed(scan.jaxpr, operands)

    flags = list(perturbed)
    carry = slice(scan.const_count, scan.const_count + scan.carry_count)
    open_ = True
    while open_:
        found = reached(body, types, flags)
        after = [a or b for a, b in zip(flags[carry], found, strict=False)]
        open_, flags[carry] = after != flags[carry], after
    return tuple(flags)
