"""A step, over and over: both passes of a loop as loops that swap.

`jax.lax.scan` keeps what its backward pass reads as one large array for each value,
with a slice for every iteration. When the loop has ended, it is too late to swap such
an array. So both passes become loops of this kind:

    forward     carry: what is swapped of the previous step
                -> start the copies to the host; run the step
    backward    cotangent, and what came back during the previous step
                -> start the copies for the next step; run the backward pass

So each copy can hide behind a whole step. Values of the last step never leave. The cost
is one more slice in device memory in each pass.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxswap import _compat
from jaxswap._run.narrowing import widened
from jaxswap._run.steps import Step
from jaxswap._trace.tangents import has_tangent


@dataclasses.dataclass(frozen=True)
class Saved:
    """What goes from the forward loop to the backward loop.

    Attributes:
        fixed: Constants of the loop, by value index.
        sliced: Scanned arrays, and results of the loop that it reads again.
        stacked: Slices that were kept, one for each step.
        scales: By which slices are multiplied that come back from a narrower type.
        host: Slices that were swapped. Each position holds the previous step's.
        last: The slices of the last step, which never left.
    """

    fixed: dict[int, Any]
    sliced: dict[int, Any]
    stacked: dict[int, Any]
    scales: dict[int, Any]
    host: dict[int, Any]
    last: dict[int, Any]


jax.tree_util.register_dataclass(
    Saved, ["fixed", "sliced", "stacked", "scales", "host", "last"], []
)


@dataclasses.dataclass(frozen=True)
class Repeated:
    """A loop of one kind of step.

    Attributes:
        scan: The loop. Its body is not read: the step runs in its place.
        step: What it repeats.
    """

    scan: _compat.Scan
    step: Step

    def run_forward(self, operands: Sequence[Any]) -> tuple[list[Any], Saved]:
        """Run the loop. Return its results and what the backward loop needs."""
        step = self.step
        consts, init, xs = groups(self.scan, operands)
        fixed, carried, _ = groups(self.scan, step.operands)
        count = len(init)
        given = dict(zip(step.operands, operands, strict=True))
        results = step.results[count:]
        again = {*given} - {*carried}
        again.update(v for v in results if isinstance(v, int))

        nothing = {v: step.narrowed(v, zeros(step.type_of(v)))[0] for v in step.swapped}
        lossy = {v for v, x in nothing.items() if x.dtype != step.type_of(v).dtype}

        def iteration(state: Any, slices: Sequence[Any]) -> Any:
            carry, before = state
            outputs, stored = step.forward((*consts, *carry, *slices))
            ends = {v: _behind(stored[v], outputs) for v in lossy}
            leaving = {v: step.narrowed(v, (stored | ends)[v]) for v in step.swapped}
            swapped = {v: narrow for v, (narrow, _) in leaving.items()}
            scales = {v: scale for v, (_, scale) in leaving.items()}
            kept = {v: x for v, x in stored.items() if v not in {*again, *swapped}}
            host = self._copied(before, "swap_out", _compat.to_host)
            made = (outputs[count:], kept, scales, host)
            return (tuple(outputs[:count]), swapped), made

        (end, last), (ys, stacked, scales, host) = lax.scan(
            iteration,
            (tuple(init), nothing),
            tuple(xs),
            length=self.scan.length,
            reverse=self.scan.reverse,
        )
        made = {v: y for v, y in zip(results, ys, strict=True) if isinstance(v, int)}
        stored = [v for v in step.stored if v in again and v not in step.swapped]
        sliced = {
            v: made[v] if v in made else given[v] for v in stored if v not in fixed
        }
        of_consts = {v: given[v] for v in stored if v in fixed}
        return [*end, *ys], Saved(of_consts, sliced, stacked, scales, host, last)

    def run_backward(
        self,
        types: Sequence[Any],
        saved: Saved,
        cotangents: Sequence[Any],
        sums: dict[int, Any],
    ) -> list[Any]:
        """Run the loop backwards. Return a gradient or `None` for each operand.

        Args:
            types: Those of the operands.
            saved: From `run_forward`.
            cotangents: One for each result. `None` stands for zero.
            sums: What the gradients of constants are added to, by position.
        """
        const_wanted, carry_wanted, xs_wanted = groups(self.scan, self.step.wanted)
        _, carry_types, _ = groups(self.scan, types)
        given = dict(enumerate(cotangents))
        of_carry = {
            i: zeros(type_) if given[i] is None else given[i]
            for i, type_ in enumerate(carry_types)
            if carry_wanted[i]
        }
        of_ys = {
            i: c for i, c in given.items() if i >= len(carry_types) and c is not None
        }

        def iteration(state: Any, slices: Any) -> Any:
            of_carry, sums, device = state
            of_ys, sliced, stacked, scales, host = slices
            before = self._copied(host, "swap_in", _compat.to_device)
            device = {
                v: widened(x, scales[v], self.step.type_of(v).dtype)
                for v, x in device.items()
            }
            now = {**of_carry, **of_ys}
            gradients = self.step.backward(
                {**saved.fixed, **sliced, **stacked, **device},
                [now.get(i) for i in range(len(cotangents))],
                sums,
            )
            of_consts, of_carried, of_xs = groups(self.scan, gradients)
            sums = {i: of_consts[i] for i in sums}
            of_carry = {i: _like(of_carried[i], x) for i, x in of_carry.items()}
            of_xs = {i: x for i, x in enumerate(of_xs) if xs_wanted[i]}
            return (of_carry, sums, before), of_xs

        (of_carry, sums, _), of_xs = lax.scan(
            iteration,
            (of_carry, sums, saved.last),
            (of_ys, saved.sliced, saved.stacked, saved.scales, saved.host),
            length=self.scan.length,
            reverse=not self.scan.reverse,
        )
        found = ((sums, const_wanted), (of_carry, carry_wanted), (of_xs, xs_wanted))
        return [one.get(i) for one, flags in found for i in range(len(flags))]

    def _copied(
        self, arrays: dict[int, Any], name: str, copy: Callable[[Any], Any]
    ) -> dict[int, Any]:
        """Copy slices between device and host, under names that evidence shows."""
        copied = {}
        for v, array in arrays.items():
            with jax.named_scope(f"{name}({self.step.label_of(v)})"):
                copied[v] = copy(array)
        return copied


def groups(scan: _compat.Scan, of_operands: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Split a sequence with one entry an operand: constants, carry, scanned."""
    first = scan.const_count
    last = first + scan.carry_count
    return of_operands[:first], of_operands[first:last], of_operands[last:]


def zeros(aval: Any) -> jax.Array:
    """Return an array of zeros of a type."""
    return jnp.zeros(aval.shape, aval.dtype)


def _behind(array: Any, results: Sequence[Any]) -> Any:
    """Return an array that is read after a step has made its results.

    It is narrowed into the memory from which the previous step's array is copied. So
    that copy has to end before, and may take the whole step.
    """
    axes = _compat.varying_axes(array)
    made = [x for x in results if has_tangent(x) and _compat.varying_axes(x) == axes]
    return lax.optimization_barrier((array, made))[0]


def _like(x: Any, model: Any) -> jax.Array:
    """Return a gradient with the type of the cotangent that it replaces."""
    return jnp.broadcast_to(jnp.asarray(x, model.dtype), model.shape)
