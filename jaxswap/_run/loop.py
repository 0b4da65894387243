"""Loops -> loops that store, swap and recompute inside their bodies.

`jax.lax.scan` keeps what its backward pass reads as one large array for each value,
with a slice for every iteration. When the loop has ended, it is too late to swap such
an array. So the body is traced as a program of its own. Each of its values is kept,
swapped or recomputed in each iteration. Both passes become loops of this kind:

    forward     carry: what is swapped of the previous iteration
                -> start the copies to the host; run the body
    backward    cotangent, and what came back during the previous iteration
                -> start the copies for the next iteration; run the backward pass

So each copy can hide behind a whole iteration. Values of the last iteration never
leave. The cost is one more slice in device memory in each pass.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import JaxprEqn

from jaxswap import _compat
from jaxswap._graph.graph import Action, Graph, Inside, Loop
from jaxswap._run.machine import Machine, Residuals
from jaxswap._schedule.issue import schedule_body
from jaxswap._trace.describe import Traced, graph_of
from jaxswap._trace.jaxpr import Interpreter
from jaxswap._trace.opening import Opened, is_as_written
from jaxswap._trace.symbolic import NO_SIZES, Sizes, sized, symbols_of
from jaxswap._trace.tangents import differentiate, has_tangent, reached, with_zeros
from jaxswap._trace.tracing import trace

DecideLoop = Callable[[Graph], Sequence[Action]]
"""Returns the action of each value of a loop's body."""


class Loops:
    """Executes the loops of a function that is being traced, and notes the decisions.

    Attributes:
        decide: Decides on the values of a body.
        inside: How values in `jax.checkpoint` and in branches are treated.
        sizes: What symbolic dimensions count as.
        found: The bodies that were decided on, in the order of tracing.
    """

    def __init__(
        self,
        decide: DecideLoop,
        inside: Inside = Inside.AS_WRITTEN,
        sizes: Sizes = NO_SIZES,
    ) -> None:
        self.decide = decide
        self.inside = inside
        self.sizes = sizes
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
            body = self._body(scan, perturbed)
            if body is None:
                return _run_plain(plain, operands, perturbed)
            if scan.unroll != 1:
                warnings.warn(
                    f"the loop at {_compat.source_line(eqn)} with unroll={scan.unroll} "
                    "swaps or recomputes in its body, so it is not unrolled: XLA "
                    "cannot compile unrolled loops that copy to the host.",
                    stacklevel=1,
                )
            outputs, saved = body.run_forward(operands)
            types = [jax.typeof(x) for x in operands]

            def pullback(saved: _LoopResiduals, cotangents: Sequence[Any]) -> list[Any]:
                return body.run_backward(types, saved, cotangents)

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

    def _body(self, scan: _compat.Scan, perturbed: Sequence[bool]) -> "_Body | None":
        """Trace one iteration and decide. `None` if everything is kept, as in JAX."""
        jaxpr, consts = _compat.open_jaxpr(scan.jaxpr)
        inner = Loops(self.decide, self.inside, self.sizes)

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
        first, last = scan.const_count, scan.const_count + scan.carry_count
        carried, sliced = program.operands[first:last], program.operands[last:]
        twin = sized(program, self.sizes)
        graph = graph_of(twin, carried, sliced, scan.length)
        actions = tuple(self.decide(graph))
        self.found.append(Loop(graph, actions))
        is_plain = is_as_written(jaxpr, self.inside) and not inner.found
        if is_plain and all(action is Action.KEEP for action in actions):
            return None
        schedule, swapped = schedule_body(graph, actions)
        return _Body(scan, Machine(Traced(program, graph), schedule), swapped)


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


@dataclasses.dataclass(frozen=True)
class _LoopResiduals:
    """What goes from the forward loop to the backward loop.

    Attributes:
        fixed: Constants of the loop, by value index.
        sliced: Scanned arrays, and results of the loop that it reads again.
        stacked: Slices that were kept, one for each iteration.
        host: Slices that were swapped. Each position holds the previous iteration's.
        last: The slices of the last iteration, which never left.
    """

    fixed: dict[int, Any]
    sliced: dict[int, Any]
    stacked: dict[int, Any]
    host: dict[int, Any]
    last: dict[int, Any]


jax.tree_util.register_dataclass(
    _LoopResiduals, ["fixed", "sliced", "stacked", "host", "last"], []
)


@dataclasses.dataclass(frozen=True)
class _Body:
    """One iteration, traced and laid out.

    Attributes:
        scan: The loop.
        machine: Runs one iteration, forward and backward.
        swapped: The values that the loop swaps between both passes.
    """

    scan: _compat.Scan
    machine: Machine
    swapped: tuple[int, ...]

    def run_forward(self, operands: Sequence[Any]) -> tuple[list[Any], _LoopResiduals]:
        """Run the loop. Return its results and what the backward loop needs."""
        program, graph = self.machine.program, self.machine.graph
        consts, init, xs = self._groups(operands)
        count = len(init)
        given = dict(zip(program.operands, operands, strict=True))
        results = program.outputs[count:]
        again = {v for v in given if v not in graph.carried}
        again.update(v for v in results if isinstance(v, int))

        def iteration(state: Any, slices: Sequence[Any]) -> Any:
            carry, before = state
            outputs, residuals = self.machine.forward((*consts, *carry, *slices))
            device = residuals.device
            swapped = {v: device[v] for v in self.swapped}
            kept = {v: x for v, x in device.items() if v not in {*again, *swapped}}
            host = self._copied(before, "swap_out", _compat.to_host)
            return (tuple(outputs[:count]), swapped), (outputs[count:], kept, host)

        nothing = {v: _zeros(program.avals[v]) for v in self.swapped}
        (end, last), (ys, stacked, host) = lax.scan(
            iteration,
            (tuple(init), nothing),
            tuple(xs),
            length=self.scan.length,
            reverse=self.scan.reverse,
        )
        made = {v: y for v, y in zip(results, ys, strict=True) if isinstance(v, int)}
        stored = [
            v
            for v in self.machine.schedule.device_residuals
            if v in again and v not in self.swapped
        ]
        fixed = {v: given[v] for v in stored if v in self.fixed}
        sliced = {
            v: given[v] if v in graph.sliced else made[v]
            for v in stored
            if v not in self.fixed
        }
        return [*end, *ys], _LoopResiduals(fixed, sliced, stacked, host, last)

    def run_backward(
        self, types: Sequence[Any], saved: _LoopResiduals, cotangents: Sequence[Any]
    ) -> list[Any]:
        """Run the loop backwards. Return a gradient or `None` for each operand."""
        wanted = [v is not None for v in self.machine.program.gradients]
        const_wanted, carry_wanted, xs_wanted = self._groups(wanted)
        const_types, carry_types, _ = self._groups(types)
        given = dict(enumerate(cotangents))
        of_carry = {
            i: _zeros(type_) if given[i] is None else given[i]
            for i, type_ in enumerate(carry_types)
            if carry_wanted[i]
        }
        of_ys = {
            i: c for i, c in given.items() if i >= len(carry_types) and c is not None
        }
        sums = {i: _zeros(t) for i, t in enumerate(const_types) if const_wanted[i]}

        def iteration(state: Any, slices: Any) -> Any:
            of_carry, sums, device = state
            of_ys, sliced, stacked, host = slices
            before = self._copied(host, "swap_in", _compat.to_device)
            residuals = Residuals({**saved.fixed, **sliced, **stacked, **device}, {})
            now = {**of_carry, **of_ys}
            gradients = self.machine.backward(
                residuals, [now.get(i) for i in range(len(cotangents))]
            )
            of_consts, of_carried, of_xs = self._groups(gradients)
            sums = {i: x + of_consts[i] for i, x in sums.items()}
            of_carry = {i: _like(of_carried[i], x) for i, x in of_carry.items()}
            of_xs = {i: x for i, x in enumerate(of_xs) if xs_wanted[i]}
            return (of_carry, sums, before), of_xs

        (of_carry, sums, _), of_xs = lax.scan(
            iteration,
            (of_carry, sums, saved.last),
            (of_ys, saved.sliced, saved.stacked, saved.host),
            length=self.scan.length,
            reverse=not self.scan.reverse,
        )
        groups = ((sums, const_wanted), (of_carry, carry_wanted), (of_xs, xs_wanted))
        return [found.get(i) for found, flags in groups for i in range(len(flags))]

    @property
    def fixed(self) -> tuple[int, ...]:
        """The loop's constants."""
        return self.machine.program.operands[: self.scan.const_count]

    def _groups(self, of_operands: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Split a sequence with one entry an operand: constants, carry, scanned."""
        first = self.scan.const_count
        last = first + self.scan.carry_count
        return of_operands[:first], of_operands[first:last], of_operands[last:]

    def _copied(
        self, arrays: dict[int, Any], name: str, copy: Callable[[Any], Any]
    ) -> dict[int, Any]:
        """Copy slices between device and host, under names that evidence shows."""
        copied = {}
        for v, array in arrays.items():
            label = self.machine.graph.values[v].scope_label
            with jax.named_scope(f"{name}({label})"):
                copied[v] = copy(array)
        return copied


def _zeros(aval: Any) -> jax.Array:
    return jnp.zeros(aval.shape, aval.dtype)


def _like(x: Any, model: Any) -> jax.Array:
    """Return a gradient with the type of the cotangent that it replaces."""
    return jnp.broadcast_to(jnp.asarray(x, model.dtype), model.shape)
