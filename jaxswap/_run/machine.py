"""Traced program and schedule -> a machine that runs the forward and backward pass."""

import contextlib
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from jaxswap import _compat
from jaxswap._graph.compress import is_lossy
from jaxswap._graph.placement import axes_of
from jaxswap._run.in_parts import written_over
from jaxswap._run.narrowing import leaving, widened
from jaxswap._run.rounding import in_its_type, rounded_values
from jaxswap._schedule.instructions import (
    Barrier,
    InPlace,
    Instruction,
    Run,
    Schedule,
    SwapIn,
    SwapOut,
)
from jaxswap._schedule.prune import without_zeros, zeros_from
from jaxswap._trace import pooling
from jaxswap._trace.describe import Traced
from jaxswap._trace.program import Program
from jaxswap._trace.shardings import sharding_of
from jaxswap._trace.tangents import has_tangent


@dataclasses.dataclass(frozen=True)
class Residuals:
    """What the forward pass leaves to the backward pass, by value index."""

    device: dict[int, Any]
    host: dict[int, Any]
    scales: dict[int, Any] = dataclasses.field(default_factory=dict)
    """By which values are multiplied that come back from a narrower type."""


jax.tree_util.register_dataclass(Residuals, ["device", "host", "scales"], [])


class Machine:
    """Runs a traced program in the order of a schedule."""

    def __init__(self, traced: Traced, schedule: Schedule) -> None:
        self.traced = traced
        self.program = traced.program
        self.graph = traced.graph
        self.schedule = schedule
        self.rounded = rounded_values(traced, schedule)

    def forward(self, operands: Sequence[Any]) -> tuple[list[Any], Residuals]:
        """Execute the forward pass.

        Returns:
            The function's flat results, and what the backward pass needs.
        """
        program, schedule = self.program, self.schedule
        if any(isinstance(x, Tracer) for x in operands):
            self._refuse_ordered_callbacks()
        memory = _Memory(self, self.rounded)
        memory.device.update(zip(program.operands, operands, strict=True))
        outputs = [v for v in program.outputs if isinstance(v, int)]
        memory.execute(schedule.forward, {*outputs, *schedule.device_residuals})
        stored = (v for v in schedule.device_residuals if v not in program.constants)
        residuals = Residuals(
            {v: memory.read(v) for v in stored},
            {v: memory.host[v] for v in schedule.host_residuals},
            {v: memory.scales.get(v) for v in schedule.host_residuals},
        )
        return [memory.read(atom) for atom in program.outputs], residuals

    def _refuse_ordered_callbacks(self) -> None:
        """Refuse what JAX cannot compile: swaps beside callbacks that have an order."""
        steps = (*self.schedule.forward, *self.schedule.backward)
        if not any(isinstance(step, SwapOut) for step in steps):
            return
        for operation in self.program.operations:
            if _compat.has_order(operation.eqn):
                raise NotImplementedError(
                    f"the {operation.eqn.primitive.name} at "
                    f"{_compat.source_line(operation.eqn)} is ordered, and JAX cannot "
                    "compile ordered callbacks beside values in host memory. Leave "
                    "`ordered=True` out, or use a policy that swaps nothing, such as "
                    "jaxswap.RECOMPUTE."
                )

    def backward(self, residuals: Residuals, cotangents: Sequence[Any]) -> list[Any]:
        """Execute the backward pass, except for what zero cotangents make zero.

        Args:
            residuals: From `forward`.
            cotangents: One for each result of the function. `None` stands for zero.

        Returns:
            One gradient for each operand. `None` if it is zero or was not asked for.
        """
        program = self.program
        memory = _Memory(self)
        memory.device.update(residuals.device)
        memory.host.update(residuals.host)
        memory.scales.update(residuals.scales)
        absent = []
        for v, cotangent in zip(program.cotangents, cotangents, strict=True):
            if v is not None and cotangent is None:
                absent.append(v)
            elif v is not None:
                memory.device[v] = cotangent
        zeros = zeros_from(self.graph, absent)
        steps = without_zeros(self.graph, self.schedule.backward, zeros)
        memory.execute(steps, {v for v in program.gradients if isinstance(v, int)})
        gradients = [None if v is None else memory.read(v) for v in program.gradients]
        return like_operands(program, gradients)


def like_operands(program: Program, gradients: Sequence[Any]) -> list[Any]:
    """Split gradients over a mesh as their operands are split.

    Otherwise, if something (an optimizer) computes on a gradient before it is split,
    XLA sends the whole sum to every device. With this, each device gets only its part.
    """
    placement, found = program.placement, list(gradients)
    if placement is None:
        return found
    for index, v in enumerate(program.operands):
        axes = axes_of(program.specs[v])
        is_array = found[index] is not None and has_tangent(program.avals[v])
        if is_array and axes and set(axes).isdisjoint(placement.explicit):
            sharding = sharding_of(placement, program.specs[v])
            found[index] = lax.with_sharding_constraint(found[index], sharding)
    return found


class _Memory:
    """Executes instructions. Frees each array after its last use."""

    def __init__(self, machine: Machine, rounded: Collection[int] = ()) -> None:
        self.traced = machine.traced
        self.program = machine.program
        self.rounded = rounded
        self.graph = machine.graph
        self.known = machine.program.constants
        self.device: dict[int, Any] = dict(self.known)
        self.host: dict[int, Any] = {}
        self.scales: dict[int, Any] = {}

    def read(self, atom: Any) -> Any:
        """Return the array of a value or literal. A missing cotangent is zero."""
        if not isinstance(atom, int):
            return atom.val
        if atom not in self.device:
            aval = self.program.avals[atom]
            return jnp.zeros(aval.shape, aval.dtype)
        return self.device[atom]

    def execute(self, steps: Sequence[Instruction], kept: set[int]) -> None:
        """Execute `steps` in order. Arrays in `kept` are not freed."""
        last = self._last_uses(steps)
        for index, step in enumerate(steps):
            match step:
                case Run(equation, in_place=InPlace() as in_place):
                    self._run_in_place(equation, in_place)
                case Run(equation):
                    self._run(equation)
                case SwapOut(value):
                    with self._named("swap_out", value):
                        self._swap_out(value)
                case SwapIn(value):
                    with self._named("swap_in", value):
                        self._swap_in(value)
                case Barrier(device, host):
                    self._barrier(device, host)
            for v in last.get(index, ()):
                if v not in kept and v not in self.known:
                    self.device.pop(v, None)

    def _swap_out(self, value: int) -> None:
        graph, array = self.graph, self.device[value]
        narrow = leaving(graph.values[value], graph.compress, array)
        array, self.scales[value] = narrow
        self.host[value] = _compat.to_host(array)

    def _swap_in(self, value: int) -> None:
        array = _compat.to_device(self.host[value])
        if is_lossy(self.graph.values[value], self.graph.compress):
            dtype = self.program.avals[value].dtype
            array = widened(array, self.scales[value], dtype)
        self.device[value] = array

    def _run(self, index: int) -> None:
        operation = self.program.operations[index]
        inputs = [self.read(atom) for atom in operation.inputs]
        results = pooling.bind(operation.eqn, inputs)
        # As a part of the equation: copies are named after what they copy.
        with _compat.at_equation(operation.eqn):
            for v, array in zip(operation.outputs, results, strict=True):
                self.device[v] = in_its_type(array) if v in self.rounded else array

    def _run_in_place(self, index: int, in_place: InPlace) -> None:
        operation, names = self.program.operations[index], in_place.values
        awaited = tuple(v for v in in_place.awaited if v in self.device)
        at_host = tuple(v for v in names if v in self.host)
        if awaited or at_host:
            self._barrier((names[-1], *awaited), at_host)
        with _compat.at_equation(operation.eqn):
            result = written_over(self.traced, index, in_place, self.read, self.rounded)
        self.device[operation.outputs[0]] = result

    def _barrier(self, device: tuple[int, ...], host: tuple[int, ...]) -> None:
        # Inside `shard_map` a barrier gives all its results one type. So values that
        # vary along other axes get a barrier of their own.
        groups: dict[frozenset[str], tuple[dict[int, Any], dict[int, Any]]] = {}
        for kind, arrays, values in ((0, self.device, device), (1, self.host, host)):
            for v in values:
                axes = _compat.varying_axes(arrays[v])
                groups.setdefault(axes, ({}, {}))[kind][v] = arrays[v]
        for group in groups.values():
            on_device, on_host = lax.optimization_barrier(group)
            self.device.update(on_device)
            self.host.update(on_host)

    def _last_uses(self, steps: Sequence[Instruction]) -> dict[int, list[int]]:
        """Map the index of a step to the values whose array no later step reads.

        A value that a later step brings back needs no array until then.
        """
        seen: set[int] = set()
        last: dict[int, list[int]] = {}
        for index in reversed(range(len(steps))):
            reads: tuple[int, ...] = ()
            match step := steps[index]:
                case Run(equation):
                    eqn = self.graph.equations[equation]
                    reads = (*eqn.inputs, *step.leaves, *eqn.outputs)
                case SwapOut(value):
                    reads = (value,)
                case SwapIn(value):
                    seen.discard(value)
                case Barrier():
                    reads = step.device
            last[index] = [v for v in dict.fromkeys(reads) if v not in seen]
            seen.update(reads)
        return last

    def _named(self, act: str, value: int) -> contextlib.AbstractContextManager[Any]:
        """Put a copy under a name that evidence shows."""
        return jax.named_scope(f"{act}({self.graph.values[value].scope_label})")
