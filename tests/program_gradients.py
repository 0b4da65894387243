"""A random program's gradient, plain and offloaded."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from program_building import build
from program_context import Array
from program_generator import NUMBERED, Program, shrink

import jaxswap
from jaxswap import LMS, OFFLOAD, RECOMPUTE
from jaxswap._check import INFORMATIVE, Problem, cotangent, random_mix
from jaxswap._graph.graph import Inside
from jaxswap._run.reference import UNDER_POLICY, Reference
from jaxswap._run.source import Source
from jaxswap._schedule.swap_heavy import SwapHeavy
from jaxswap._trace.tangents import has_tangent


def policy_of(program: Program) -> Any:
    """What `offload` takes."""
    name, *number = program.policy.split()
    if name in NUMBERED:
        return random_mix(int(number[0]))
    return {
        "offload": OFFLOAD,
        "recompute": RECOMPUTE,
        "default": SwapHeavy(min_bytes=0, min_share=0.0, skip_distance=1),
        "lms": LMS(1, 1, min_bytes=0),
        "sync": LMS(3, 2, sync_mode=3, min_bytes=0),
    }[name]


@contextlib.contextmanager
def opened(program: Program) -> Iterator[None]:
    """Treat values inside of checkpoints and branches as the program's policy says."""
    name, *number = program.policy.split()
    traced = Source.traced
    if name == "opened":
        inside = tuple(Inside)[int(number[0]) % len(Inside)]
        traced = functools.partialmethod(Source.traced, inside=inside)
    with mock.patch.object(Source, "traced", traced):
        yield


def outside(program: Program, problem: Problem) -> Callable[..., Callable[..., Any]]:
    """What becomes of the gradient step: from a function to one of the operands."""

    def checkpointed(fn: Callable[..., Any]) -> Callable[..., Any]:
        return problem.step(jax.checkpoint(fn))

    def vmapped(fn: Callable[..., Any]) -> Callable[..., Any]:
        def pair(x: Array) -> Array:
            is_float = jnp.issubdtype(x.dtype, jnp.inexact)
            return jnp.stack([x, (x * 0.7).astype(x.dtype) if is_float else x])

        return lambda *operands: jax.vmap(problem.step(fn))(
            *jax.tree.map(pair, operands)
        )

    def scanned(fn: Callable[..., Any]) -> Callable[..., Any]:
        """Two steps of gradient descent in a loop."""

        def descend(wanted: Any, others: Any) -> Any:
            def one(wanted: Any, _: None) -> tuple[Any, Any]:
                found = problem.step(fn)(wanted, others)
                rate = 0.1
                moved = jax.tree.map(
                    lambda x, g: (x - rate * jnp.conj(g)).astype(x.dtype),
                    wanted,
                    found["gradient"],
                )
                return moved, found["value"]

            last, values = lax.scan(one, wanted, None, 2)
            return {"value": values, "gradient": last}

        return descend

    def twice(fn: Callable[..., Any]) -> Callable[..., Any]:
        """Called twice, with operations before, between and after."""

        def both(*args: Any) -> Any:
            first = jax.jit(fn)(*args)
            changed = jax.tree.map(lambda x: _moved(x), args)
            return first, fn(*changed)

        return problem.step(both)

    def grad_of_grad(fn: Callable[..., Any]) -> Callable[..., Any]:
        def second(wanted: Any, others: Any) -> Any:
            def first(wanted: Any) -> Any:
                return problem.step(fn)(wanted, others)["gradient"]

            gradient, pullback = jax.vjp(first, wanted)
            cotangents = jax.tree.map(cotangent, gradient)
            return {"value": gradient, "gradient": pullback(cotangents)[0]}

        return second

    ways = {"vmap": vmapped, "checkpoint": checkpointed, "scan": scanned}
    ways |= {"twice": twice, "grad_of_grad": grad_of_grad}
    return ways.get(program.outside, problem.step)


def _moved(x: Array) -> Array:
    is_float = jnp.issubdtype(x.dtype, jnp.inexact)
    return jnp.sin(x).astype(x.dtype) if is_float else x


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        kind: how it failed, as one word; empty if it did not. It begins with
            `plain` if JAX alone cannot differentiate the program either.
        error: what went wrong.
        swaps: copies to the host.
        is_informative: whether a wrong gradient would have been noticed: some of its
            numbers are finite and not zero, and rounding explains little.
    """

    kind: str = ""
    error: str = ""
    swaps: int = 0
    is_informative: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether plain JAX fails, so that nothing can be compared."""
        return self.kind.startswith("plain")


def attempt(program: Program) -> Outcome:
    """Compare the offloaded program with the plain one."""
    try:
        return compare(program)
    except jaxswap.GradientError as error:
        if _is_rounding(program):
            return Outcome()
        return Outcome("GradientError", str(error))
    except Exception as error:
        notes = " ".join(getattr(error, "__notes__", ()))
        who = "offloaded" if UNDER_POLICY in notes else "plain"
        text = " ".join(str(error).split())[:300]
        return Outcome(f"{who}:{type(error).__name__}", text)


def differentiated(program: Program, options: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The program's value and gradient, plain and offloaded, and their operands."""
    fn, args = build(program)
    is_pair = program.ending == "aux" and program.outside != "twice"
    problem = Problem(args, {}, None, is_pair)
    way = outside(program, problem)
    return way(fn), way(jaxswap.offload(fn, **options)), problem.operands


def compare(program: Program) -> Outcome:
    """Compare the offloaded program with the plain one.

    Raises:
        jaxswap.GradientError: if value or gradient differ.
        Exception: of any kind, with a note if it is the offloaded one that raises it.
    """
    options = {"policy": policy_of(program)}
    plain, swapped, operands = differentiated(program, options)
    is_jitted = program.outside != "eager"
    reference = Reference(plain, operands, is_jitted=is_jitted)
    with opened(program):
        row = reference.compare(program.policy, swapped, options)
    gradient = [np.asarray(g) for g in reference.expected["gradient"].values()]
    is_something = any(np.any(np.isfinite(g) & (g != 0)) for g in gradient)
    is_informative = is_something and row.widest <= INFORMATIVE
    return Outcome(swaps=row.swaps, is_informative=bool(is_informative))


def _is_rounding(program: Program) -> bool:
    """Whether the difference is gone in double precision.

    Where gradients cancel, what single precision leaves is rounding alone, and moving
    the arguments a little does not always show it.
    """
    types = [given[: given.index("[")] for given in program.inputs]
    double = ["complex128" if "complex" in t else "float64" for t in types]
    inputs = [
        given if kind.startswith("int") else given.replace(kind, wide)
        for given, kind, wide in zip(program.inputs, types, double, strict=True)
    ]
    with jax.enable_x64(True):
        program = dataclasses.replace(program, inputs=tuple(inputs))
        *both, operands = differentiated(program, {"policy": policy_of(program)})
        with opened(program):
            expected, actual = (jax.tree.leaves(jax.jit(f)(*operands)) for f in both)
    numbers = [np.asarray(x) for x in expected if has_tangent(x)]
    largest = max(np.max(np.abs(x[np.isfinite(x)]), initial=0.0) for x in numbers)
    return all(
        np.allclose(a, e, rtol=0.0, atol=1e-11 * largest, equal_nan=True)
        for a, e in zip(actual, expected, strict=True)
    )


def shrunk(program: Program, kind: str, attempts: int = 200) -> Program:
    """The simplest program found that fails in the same way."""
    return shrink(program, lambda other: attempt(other).kind == kind, attempts)
