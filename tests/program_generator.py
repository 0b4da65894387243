"""Random JAX programs, as short lines of text that can be built again.

    Program(["float32[2,3]"], [Step("scan_time", body=[Step("matmul")])], policy="lms")

`draw` makes the program of a number, `program_building` its function and arguments,
`program_gradients` its gradient, plain and offloaded. Operands are counted backwards
from the newest value and wrap around, so every sequence of steps is a program, and what
is left of one when a step is taken out is one too: this is what lets `shrink` find the
few that matter.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import jax
from program_operations import OPERATIONS, WITH_BODY

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
