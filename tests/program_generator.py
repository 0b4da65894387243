"""Random JAX programs, as short lines of text that can be built again.

    Program(["float32[2,3]"], [Step("scan_time", body=[Step("matmul")])], policy="lms")

`draw` makes the program of a number, `build` its function and arguments, `compare` its
gradient, plain and offloaded. Operands are counted backwards from the newest value and
wrap around, so every sequence of steps is a program, and what is left of one when a
step is taken out is one too: this is what lets `shrink` find the few that matter.
"""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from program_operations import OPERATIONS, WITH_BODY, Context, small

import jaxswap
from jaxswap import LMS, OFFLOAD, RECOMPUTE
from jaxswap._check import INFORMATIVE, Problem, cotangent, random_mix
from jaxswap._graph.graph import Inside
from jaxswap._run.reference import UNDER_POLICY, Reference
from jaxswap._run.source import Source
from jaxswap._schedule.swap_heavy import SwapHeavy
from jaxswap._trace.tangents import has_tangent

Array = jax.Array


def _line(self: Any) -> str:
    """The call that makes a dataclass, without what is as it is by default."""
    parts = []
    for field in dataclasses.fields(self):
        value = getattr(self, field.name)
        if value != field.default:
            text = repr(list(value)) if isinstance(value, tuple) else repr(value)
            is_named = field.default is not dataclasses.MISSING
            parts.append(f"{field.name}={text}" if is_named else text)
    return f"{type(self).__name__}({', '.join(parts)})"


@dataclasses.dataclass(frozen=True, repr=False)
class Step:
    """One operation.

    Attributes:
        name: of the operation.
        x: its first operand; 0 is the newest value, 1 the one before.
        y: its second operand.
        choice: decides everything else; see `Context.pick`.
        body: operations inside it.
    """

    name: str
    x: int = 0
    y: int = 0
    choice: int = 0
    body: Sequence["Step"] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", tuple(self.body))

    __repr__ = _line


@dataclasses.dataclass(frozen=True, repr=False)
class Program:
    """A random program and how it is differentiated.

    Attributes:
        inputs: types of its arguments, besides weights.
        steps: its operations.
        ending: what it returns.
        outside: what is done to its gradient.
        policy: what becomes of its values.
        seed: of the numbers it is run on.
    """

    inputs: Sequence[str]
    steps: Sequence[Step]
    ending: str = "last"
    outside: str = "jit"
    policy: str = "offload"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "steps", tuple(self.steps))

    __repr__ = _line

    def features(self) -> collections.Counter[str]:
        """What occurs in it, by name."""
        found = collections.Counter([self.ending, self.outside])
        found[self.policy.split()[0]] += 1
        found.update(text.split("[")[0] for text in self.inputs)
        found[f"{len(self.steps)} steps"] += 1

        def add(steps: Sequence[Step], depth: int) -> None:
            for step in steps:
                found[step.name] += 1
                if depth:
                    found[f"depth {depth}"] += 1
                add(step.body, depth + 1)

        add(self.steps, 0)
        return found


def parse(line: str) -> Program:
    """Make a program from its line."""
    return eval(line, {"Program": Program, "Step": Step})


# --- drawing and shrinking ------------------------------------------------------------

SHAPES = ((), (1,), (3,), (4, 4), (2, 3), (3, 1), (1, 4, 2), (2, 3, 4), (1, 4, 4, 2))
TYPES = ("float32",) * 6 + ("bfloat16", "float16", "complex64", "int32")
ENDINGS = ("last", "last", "all", "aux", "tree", "vector")
OUTSIDE = ("jit",) * 8 + ("eager", "vmap", "checkpoint", "scan", "twice")
OUTSIDE += ("grad_of_grad",)
OUTSIDE += ("grad_of_grad",)
MIXES = ("offload", "recompute", "default", "lms", "sync", *("random",) * 5)
MIXES += ("opened",) * 2
NUMBERED = ("random", "opened")
REACH = (0, 0, 0, 0, 1, 1, 2, 3, 6, 11)
MOST_STEPS = 15
DEPTH = 3


def draw(seed: int, most: int = MOST_STEPS) -> Program:
    """The program of a number, the same on every machine.

    Args:
        seed: the number.
        most: operations that it has at most; small programs are more frequent.
    """
    random = Random(seed)
    policy = random.choice(MIXES)
    outside = random.choice(OUTSIDE)
    # Without `jit`, XLA compiles every operation by itself.
    most = min(most, 2) if outside == "eager" else most
    count = min(random.randint(1, most), random.randint(1, most))
    return Program(
        inputs=[_draw_type(random, i > 0) for i in range(random.choice((1, 1, 2, 3)))],
        steps=_draw_steps(random, count, 0),
        ending=random.choice(ENDINGS),
        outside=outside,
        policy=f"{policy} {random.randrange(100)}" if policy in NUMBERED else policy,
        seed=seed,
    )


def _draw_type(random: Random, may_be_integer: bool) -> str:
    """The type of an argument, such as `float32[2,3]`."""
    dtype = random.choice(TYPES if may_be_integer else TYPES[:-1])
    return f"{dtype}[{','.join(map(str, random.choice(SHAPES)))}]"


def _draw_steps(random: Random, count: int, depth: int) -> list[Step]:
    """So many operations; a third of them hold others as long as there are any."""
    steps: list[Step] = []
    while count:
        x, y = random.choice(REACH), random.choice(REACH)
        choice = random.randrange(1000)
        count -= 1
        if count and depth < DEPTH and random.random() < 1 / 3:
            inside = random.randint(1, min(count, 4))
            count -= inside
            body = _draw_steps(random, inside, depth + 1)
            steps.append(Step(random.choice(HOLDERS), x, y, choice, body))
        else:
            steps.append(Step(random.choice(SIMPLE), x, y, choice))
    return steps


SIMPLE = sorted(OPERATIONS.keys() - WITH_BODY)
HOLDERS = sorted(WITH_BODY)


def simpler(program: Program) -> Iterator[Program]:
    """Programs with a little less in them, the boldest first."""
    change = functools.partial(dataclasses.replace, program)
    for steps in _simpler_steps(program.steps):
        if steps:
            yield change(steps=steps)
    for i in range(len(program.inputs)):
        fewer = [*program.inputs[:i], *program.inputs[i + 1 :]]
        if fewer:
            yield change(inputs=fewer)
        if program.inputs[i] not in PLAIN:
            for text in PLAIN:
                yield change(inputs=[*program.inputs[:i], text, *fewer[i:]])
    for field, values in (
        ("ending", ("last", "vector")),
        ("outside", ("jit",)),
        ("policy", ("offload", "recompute", "default")),
        ("seed", (0,)),
    ):
        value = getattr(program, field)
        for other in values:
            if value == other:
                break
            yield change(**{field: other})


PLAIN = ("float32[]", "float32[3]", "float32[2,3]")


def _simpler_steps(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Without one of them; with one of them simpler."""
    for i, step in enumerate(steps):
        before, after = list(steps[:i]), list(steps[i + 1 :])
        yield before + after
        if step.body:
            yield [*before, *step.body, *after]
        for body in _simpler_steps(step.body):
            if body:
                yield [*before, dataclasses.replace(step, body=body), *after]
        for field in ("x", "y", "choice"):
            value = getattr(step, field)
            for other in dict.fromkeys((0, value // 2, value - 1)):
                if 0 <= other < value:
                    simpler = dataclasses.replace(step, **{field: other})
                    yield [*before, simpler, *after]


def shrink(
    program: Program, fails: Callable[[Program], bool], attempts: int = 300
) -> Program:
    """The simplest program found that fails as well."""
    seen = {program}
    is_shrinking = True
    while is_shrinking:
        is_shrinking = False
        for other in simpler(program):
            if other in seen or len(seen) > attempts:
                continue
            seen.add(other)
            if fails(other):
                program, is_shrinking = other, True
                break
    return program


# --- building -------------------------------------------------------------------------


class Arguments:
    """The arrays that a program's operations asked for, by name.

    The first run only notes what is asked for; then `draw` makes the arrays.
    """

    def __init__(self, arrays: dict[str, Any] | None = None) -> None:
        self.arrays = arrays
        self.wanted: dict[str, Callable[[np.random.Generator], Any]] = {}

    def weight(self, number: int, shape: tuple[int, ...]) -> Array:
        """Weights that keep the size of what they multiply."""
        scale = float(max(1, np.prod(shape[:-1]))) ** -0.5

        def draw(random: np.random.Generator) -> Array:
            # In double precision where JAX allows it; see `_is_rounding`.
            return jnp.asarray(random.normal(size=shape) * scale, float)

        return self._ask(f"weight{number}{list(shape)}", draw)

    def integers(self, number: int, shape: tuple[int, ...], high: int) -> Array:
        """Integers below `high`."""

        def draw(random: np.random.Generator) -> Array:
            return jnp.asarray(random.integers(high, size=shape), jnp.int32)

        return self._ask(f"integers{number}{list(shape)} below {high}", draw)

    def key(self, number: int) -> Array:
        """A key for random numbers; 0 is one of the kind that is slow to compile."""
        kind = "unsafe_rbg" if number else "threefry2x32"
        return self._ask(f"key{number}", lambda _: jax.random.key(number, impl=kind))

    def _ask(self, name: str, draw: Callable[[np.random.Generator], Any]) -> Array:
        self.wanted[name] = draw
        if self.arrays is None:
            return draw(np.random.default_rng(0))
        return self.arrays[name]

    def draw(self, random: np.random.Generator) -> dict[str, Any]:
        """Make all that was asked for."""
        return {name: draw(random) for name, draw in sorted(self.wanted.items())}


def run(steps: Sequence[Step], values: Sequence[Array], leaves: Any) -> list[Array]:
    """Append the results of the steps to the values."""
    found = list(values)
    for step in steps:
        x, y = (found[-1 - index % len(found)] for index in (step.x, step.y))

        def body(values: Sequence[Array], step: Step = step) -> Array:
            return run(step.body, values, leaves)[-1]

        result = OPERATIONS[step.name](Context(leaves, step.choice, body), x, y)
        results = result if isinstance(result, tuple) else (result,)
        found += [small(array) for array in results]
    return found


def entering(x: Array) -> Array:
    """An argument as the real number that operations work with."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return jnp.real(x * jnp.conj(x)) / 2 + jnp.sin(jnp.imag(x))
    return jnp.cos(x.astype(jnp.float32)) if x.dtype == jnp.int32 else x


def summed(x: Array) -> Array:
    """A scalar to which each entry contributes in its own way."""
    wide = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
    return jnp.mean(x.astype(wide) * cotangent(x).astype(wide))


def end(ending: str, inputs: Sequence[Array], values: Sequence[Array]) -> Any:
    """What a program returns."""
    last = values[-1]
    match ending:
        case "last":
            return summed(last)
        case "all":
            return sum(summed(v) * (i + 1) for i, v in enumerate(values)) / len(values)
        case "aux":
            count = jnp.sum(last > 0)
            return summed(last), {"count": count, "values": list(values[-3:])}
        case "tree":
            places = jnp.argsort(last.ravel())
            constants = (jnp.ones(2), jnp.arange(3))
            return {"twice": (last, last), "all": inputs, "rest": (places, constants)}
        case "vector":
            return last
    raise ValueError(f"no ending {ending!r}")


def build(program: Program) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the function and its arguments."""
    random = np.random.default_rng(program.seed)
    given = tuple(_draw(text, random) for text in program.inputs)

    def of(inputs: Sequence[Array], leaves: Arguments) -> Any:
        values = run(program.steps, [entering(x) for x in inputs], leaves)
        return end(program.ending, inputs, values)

    wanted = Arguments()
    jax.eval_shape(lambda inputs: of(inputs, wanted), given)

    def fn(inputs: Sequence[Array], arrays: dict[str, Any]) -> Any:
        return of(inputs, Arguments(arrays))

    return fn, (given, wanted.draw(random))


def _draw(text: str, random: np.random.Generator) -> Array:
    """Numbers of a type such as `float32[2,3]`."""
    dtype, _, sizes = text.rstrip("]").partition("[")
    shape = tuple(int(size) for size in sizes.split(",") if size)
    if dtype == "int32":
        return jnp.asarray(random.integers(5, size=shape), dtype)
    numbers = random.normal(size=shape)
    if dtype == "complex64":
        numbers = numbers + 1j * random.normal(size=shape)
    return jnp.asarray(numbers, dtype)


# --- differentiating ------------------------------------------------------------------


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
