"""Whatever becomes of its values, an offloaded function keeps its value and gradient.

Every function of the zoo meets every mix of actions.
"""

import functools
import itertools
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import CASES, Case

import jaxswap
from jaxswap import KEEP, LMS, OFFLOAD, RECOMPUTE, Action, Value
from jaxswap._gpu.target import built_in_target
from jaxswap._offload import _wrap
from jaxswap._request import search_of
from jaxswap._run.machine import Machine
from jaxswap._run.source import Source
from jaxswap._scheduler import Scheduler
from jaxswap._search.lessons import Lessons
from jaxswap._search.limits import Limits
from jaxswap._search.ways import WAYS

ACTIONS = (OFFLOAD, RECOMPUTE, KEEP)


def always(action: Action) -> Callable[[Value], Action]:
    return lambda value: action


def alternate(value: Value) -> Action:
    return ACTIONS[value.index % 3]


def at_random(seed: int) -> Callable[[Value], Action]:
    def policy(value: Value) -> Action:
        text = f"{seed} {value.index} {value.shape} {value.primitive}"
        return ACTIONS[zlib.crc32(text.encode()) % 3]

    return policy


MIXES: dict[str, Any] = {
    "default": None,
    "keep": always(KEEP),
    "offload": always(OFFLOAD),
    "recompute": always(RECOMPUTE),
    "alternate": alternate,
    "random0": at_random(0),
    "random1": at_random(1),
    "random2": at_random(2),
    "lms11": LMS(1, 1, min_bytes=0),
    "lms32": LMS(3, 2, min_bytes=0),
    "lms11sync": LMS(1, 1, sync_mode=3, min_bytes=0),
}
BY_NAME = {case.name: case for case in CASES}
FIRST = ("default", "offload", "random0", "lms32")
OTHERS = tuple(mix for mix in MIXES if mix not in FIRST)


def is_inexact(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def cotangent(leaf: Any) -> Any:
    """A gradient to start from: other numbers in each place, float0 for integers."""
    shape, dtype = jnp.shape(leaf), jnp.result_type(leaf)
    if not is_inexact(leaf):
        return np.zeros(shape, jax.dtypes.float0)
    return jnp.cos(jnp.arange(np.prod(shape)).reshape(shape)).astype(dtype)


def is_scalar(case: Case) -> bool:
    """Whether `jax.grad` accepts the function."""
    out = jax.eval_shape(case.fn, *case.args)
    out = out[0] if case.has_aux else out
    return isinstance(out, jax.ShapeDtypeStruct) and out.shape == ()


def with_gradient(case: Case, fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the case's arguments that returns its value and its gradient."""
    if is_scalar(case):
        return jax.value_and_grad(fn, case.argnums, case.has_aux)

    def value_and_pullback(*args: Any) -> tuple[Any, Any]:
        def of_differentiated(*some: Any) -> Any:
            every = dict(enumerate(args)) | dict(zip(case.argnums, some, strict=True))
            return fn(*every.values())

        some = [args[i] for i in case.argnums]
        out, pullback = jax.vjp(of_differentiated, *some)
        return out, pullback(jax.tree.map(cotangent, out))

    return value_and_pullback


@functools.cache
def plain(name: str) -> Any:
    """Value and gradient of a case under JAX alone."""
    case = BY_NAME[name]
    return jax.jit(with_gradient(case, case.fn))(*case.args)


def assert_same(actual: Any, expected: Any, rtol: float, label: str = "") -> None:
    """Same tree, shapes and dtypes; equal numbers up to `rtol` of the largest entry."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected), label
    found = jax.tree.leaves_with_path(actual)
    for (path, a), e in zip(found, jax.tree.leaves(expected), strict=True):
        where = f"{label}{jax.tree_util.keystr(path)}"
        assert (jnp.shape(a), jnp.result_type(a)) == (
            jnp.shape(e),
            jnp.result_type(e),
        ), where
        if jnp.issubdtype(jnp.result_type(e), jax.dtypes.prng_key):
            a, e = jax.random.key_data(a), jax.random.key_data(e)
        if not is_inexact(e):
            assert np.array_equal(a, e), where
            continue
        wide = np.complex128 if np.iscomplexobj(e) else np.float64
        a, e = np.asarray(a, wide), np.asarray(e, wide)
        error = np.max(np.abs(a - e), initial=0.0)
        assert error <= rtol * np.max(np.abs(e), initial=0.0), f"{where}: {error}"


def assert_all_same(case: Case, functions: dict[str, Callable[..., Any]]) -> None:
    """Compare functions with a case, compiled as one program: that takes half the time.

    Args:
        case: The plain function and its arguments.
        functions: The same function in other forms, by what an error calls them.
    """
    everyone = {name: with_gradient(case, fn) for name, fn in functions.items()}
    all_at_once = jax.jit(lambda *args: [fn(*args) for fn in everyone.values()])
    for name, actual in zip(everyone, all_at_once(*case.args), strict=True):
        assert_same(actual, plain(case.name), case.rtol, name)


@pytest.mark.parametrize(
    "mixes",
    [FIRST, pytest.param(OTHERS, marks=pytest.mark.thorough)],
    ids=["first", "others"],
)
@pytest.mark.parametrize("name", BY_NAME)
def test_value_and_gradient_are_those_of_the_plain_function(
    name: str, mixes: tuple[str, ...]
) -> None:
    case = BY_NAME[name]
    swapped = {mix: jaxswap.offload(case.fn, policy=MIXES[mix]) for mix in mixes}
    assert_all_same(case, swapped)


def planned(fn: Callable[..., Any], share: float) -> Callable[..., Any]:
    """The function with the best plan for a share of the memory of keeping all.

    Copies that can be early are, so that every form of a swap occurs. Loops take turns
    with the ways to run them.
    """
    ways = itertools.cycle(WAYS[-5:])

    def decide(source: Source) -> Machine:
        traced = source.traced(lambda body: next(ways)(body))
        search = search_of(traced.graph, built_in_target("h100"))
        kept = search.kept.timeline
        room = kept.device_bytes - kept.caller_bytes
        limits = Limits(kept.caller_bytes + int(share * room))
        found = search.find(limits, seconds=0.1).draft
        early = Lessons(eager=frozenset(range(len(traced.graph.values))))
        draft = search.lay_out_again(found, limits, early).draft
        return Machine(traced, draft.schedule)

    return _wrap(fn, Scheduler(decide))


@pytest.mark.thorough
@pytest.mark.parametrize("name", BY_NAME)
def test_planned_function_has_the_gradient_of_the_plain_one(name: str) -> None:
    case = BY_NAME[name]
    assert_all_same(case, {str(s): planned(case.fn, s) for s in (0.6, 0.0)})


@pytest.mark.parametrize("name", BY_NAME)
def test_value_without_gradient_is_that_of_the_plain_function(name: str) -> None:
    case = BY_NAME[name]
    swapped = jaxswap.offload(case.fn, policy=always(OFFLOAD))
    assert_same(jax.jit(swapped)(*case.args), plain(name)[0], case.rtol)


EAGER = ["mlp_gelu", "unet", "dropout", "scan_over_time", "trees_of_many_kinds"]


@pytest.mark.thorough
@pytest.mark.parametrize("mix", ["offload", "recompute", "alternate", "lms11"])
@pytest.mark.parametrize("name", EAGER)
def test_gradient_is_the_same_without_jit(name: str, mix: str) -> None:
    case = BY_NAME[name]
    swapped = jaxswap.offload(case.fn, policy=MIXES[mix])
    actual = with_gradient(case, swapped)(*case.args)
    assert_same(actual, plain(name), case.rtol)


@pytest.mark.parametrize("name", BY_NAME)
def test_plain_gradient_says_something(name: str) -> None:
    """A case that gives NaN, or zeros alone, would agree with anything."""
    _, gradients = plain(name)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(gradients)]
    assert all(np.all(np.isfinite(leaf.astype(np.complex64))) for leaf in leaves)
    assert any(np.any(leaf != 0) for leaf in leaves)


def test_most_cases_have_values_to_swap() -> None:
    """The contract would hold without any offload; so count the functions that do."""

    def swaps(case: Case) -> bool:
        swapped = jaxswap.offload(case.fn, policy=always(OFFLOAD))
        traced = jax.make_jaxpr(with_gradient(case, swapped))(*case.args)
        return "<host>" in str(traced)

    without = [case.name for case in CASES if not swaps(case)]
    assert len(without) <= 3, without


def test_a_wrong_gradient_would_be_noticed() -> None:
    expected = plain("mlp_tanh")
    value, (first, *rest) = expected
    wrong = (value, (first.at[0, 0].add(2e-5 * jnp.max(jnp.abs(first))), *rest))
    assert_same(expected, expected, 1e-5)
    with pytest.raises(AssertionError):
        assert_same(wrong, expected, 1e-5)
