"""Random programs keep their value and gradient, whatever becomes of their values.

Every run tries the same few hundred; `benchmarks/gradients.py` tries as many as wanted.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import program_building
import program_generator
import program_gradients
import pytest
from program_generator import Program, Step
from program_operations import OPERATIONS, WITH_BODY
from regressions import REGRESSIONS

import jaxswap

CHUNKS = 10
CHUNK = 20
MOST_STEPS = 5
PROGRAMS = [program_generator.draw(seed, MOST_STEPS) for seed in range(CHUNKS * CHUNK)]

# Said on purpose, and of many of these programs.
pytestmark = [
    pytest.mark.filterwarnings("ignore:the loop at .* with unroll=2 swaps"),
]


@pytest.fixture(scope="module", autouse=True)
def _forgotten_programs() -> Iterator[None]:
    yield
    jax.clear_caches()


@pytest.mark.parametrize(
    "chunk",
    [0, 1, 2, *(pytest.param(i, marks=pytest.mark.thorough) for i in range(3, CHUNKS))],
)
def test_gradients_of_random_programs(chunk: int) -> None:
    outcomes, failures = [], []
    for program in PROGRAMS[chunk * CHUNK : (chunk + 1) * CHUNK]:
        outcome = program_gradients.attempt(program)
        outcomes.append(outcome)
        if outcome.kind and not outcome.is_refused:
            small = program_gradients.shrunk(program, outcome.kind, attempts=50)
            failures.append(f"{small}\n    {outcome.kind} {outcome.error}")
    assert not failures, "\n".join(failures)
    # JAX refuses complex numbers in a checkpoint with a policy.
    assert sum(outcome.is_refused for outcome in outcomes) <= 1
    # The others have no gradient, lose it to rounding, or have nothing to swap.
    assert sum(outcome.is_informative for outcome in outcomes) >= 0.7 * CHUNK
    assert sum(outcome.swaps > 0 for outcome in outcomes) >= 0.2 * CHUNK


@pytest.mark.parametrize("name", REGRESSIONS)
def test_gradient_of_what_once_failed(name: str) -> None:
    program_gradients.compare(REGRESSIONS[name])


def altered(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
    """A function with its gradient off by a thousandth in one place of each array."""

    @jax.custom_vjp
    def same(x: jax.Array) -> jax.Array:
        return x

    def backward(_: None, g: jax.Array) -> tuple[jax.Array]:
        flat = g.ravel()
        largest = jnp.argmax(jnp.abs(flat))
        return (flat.at[largest].mul(1.001).reshape(g.shape),)

    same.defvjp(lambda x: (x, None), backward)

    def leaf(x: Any) -> Any:
        return same(x) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return lambda *args: fn(*jax.tree.map(leaf, args))


def test_a_wrong_gradient_is_noticed_and_shrunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = Program(
        ["float32[2,3]", "float32[3]"],
        [Step("unary"), Step("matmul", choice=2), Step("fori", body=[Step("norm")])],
        ending="all",
        policy="random 3",
        seed=5,
    )
    assert program_gradients.attempt(program).is_informative
    monkeypatch.setattr(jaxswap, "offload", altered)
    outcome = program_gradients.attempt(program)
    assert outcome.kind == "GradientError"
    assert outcome.error.startswith("the gradient of args")
    small = program_gradients.shrunk(program, outcome.kind, attempts=30)
    assert len(small.steps) == 1
    assert dataclasses.replace(small, inputs=(), steps=()) == Program([], [])


def test_program_is_its_line() -> None:
    for program in PROGRAMS:
        assert program_generator.parse(repr(program)) == program
    assert repr(Program(["float32[]"], [Step("norm", y=1)])) == (
        "Program(['float32[]'], [Step('norm', y=1)])"
    )


def test_program_of_a_number_is_the_same_everywhere() -> None:
    assert repr(program_generator.draw(7, 3)) == (
        "Program(['float32[1,4,4,2]'], [Step('cond', y=1, choice=596, "
        "body=[Step('reduce', choice=444)])], policy='random 11', seed=7)"
    )


def test_programs_are_of_all_kinds() -> None:
    found: collections.Counter[str] = collections.Counter()
    for program in PROGRAMS:
        found.update(program.features())
    wanted = {*OPERATIONS, *program_generator.ENDINGS, *program_generator.OUTSIDE}
    wanted |= {*program_generator.MIXES, *program_generator.TYPES, "depth 2"}
    assert not wanted - found.keys()
    assert len(set(PROGRAMS)) == len(PROGRAMS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_takes_any_operands(name: str) -> None:
    """Each shape, and each choice that its first options have."""
    body = [Step("unary")] if name in WITH_BODY else []
    for i, shape in enumerate(program_generator.SHAPES):
        dtype = ("float32", "bfloat16", "float16")[i % 3]
        sizes = ",".join(map(str, shape))
        for choice in range(i, 60, 19):
            step = Step(name, 0, 1, choice, body)
            given = [f"{dtype}[{sizes}]", "float32[2,3]"]
            fn, args = program_building.build(Program(given, [step], ending="all"))
            jax.eval_shape(jax.grad(fn, allow_int=True), *args)


def test_shrinking_ends_with_what_matters() -> None:
    drawn = map(program_generator.draw, itertools.count())
    program = next(p for p in drawn if p.features()["norm"] and len(p.steps) > 2)
    small = program_generator.shrink(program, lambda p: "norm" in p.features(), 2000)
    assert small == Program(["float32[]"], [Step("norm")])
