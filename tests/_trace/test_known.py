"""What is made of a function and its arguments, and when it is made anew."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxswap._trace import known as module
from jaxswap._trace.function import Arguments
from jaxswap._trace.known import Known

X = jnp.ones(3)


class Counted:
    """Calls of a function, each known by the number of the trace that it got."""

    def __init__(self, fn: Callable[..., Any] = lambda *args, **kwargs: None) -> None:
        self.count = 0
        self.known = Known(fn, self._make, holds_tracer=lambda made: made < 0)

    def _make(self, arguments: Arguments) -> int:
        self.count += 1
        return self.count

    def __call__(self, *args: Any, **kwargs: Any) -> int:
        is_array = lambda x: isinstance(x, jax.Array)  # noqa: E731
        return self.known.of(Arguments.of(args, kwargs, is_array))


def test_arguments_of_known_types_are_known_in_every_transformation() -> None:
    call = Counted()
    assert [call(X), call(X + 1), call(x=X), call(X)] == [1, 1, 2, 1]
    assert [call(X[:2]), call(X.astype(int)), call([X], X), call(X)] == [3, 4, 5, 1]
    seen: list[int] = []

    def fn(x: jax.Array) -> jax.Array:
        seen.append(call(x))
        return x.sum()

    for transformed in (jax.grad(fn), jax.jit(fn), lambda x: jax.vmap(fn)(x[None])):
        transformed(X)
    assert seen == [1, 1, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 2), (1, True), (0.0, -0.0), ("a", "b"), (np.zeros(2), np.ones(2))],
)
def test_other_arguments_are_told_apart_by_value(one: Any, other: Any) -> None:
    call = Counted()
    assert [call(X, one), call(X, other), call(X, one), call(X, other)] == [1, 2, 1, 2]


def test_settings_and_axes_are_part_of_what_is_known() -> None:
    call = Counted()
    assert call(X) == 1
    with jax.default_matmul_precision("highest"):
        assert call(X) == 2
    jax.vmap(lambda x: call(x) * x, axis_name="batch")(X[None])
    assert call.count == 3
    assert call(X) == 1


def test_a_changed_variable_forgets_all_that_was_known() -> None:
    scale = 1.0
    call = Counted(lambda x: x * scale)
    assert [call(X), call(X[:2]), call(X)] == [1, 2, 1]
    scale = 2.0
    assert [call(X), call(X[:2]), call(X)] == [3, 4, 3]


def test_what_a_trace_itself_changes_is_no_change() -> None:
    counts: list[int] = []
    call = Counted(lambda x: counts)
    make = call._make

    def counting(arguments: Arguments) -> int:
        counts.append(0)
        return make(arguments)

    call.known._make = counting
    assert [call(X), call(X), call(X[:2]), call(X), call(X[:2])] == [1, 1, 2, 1, 2]
    counts.clear()
    assert call(X) == 1
    counts.append(7)
    assert call(X) == 3


def test_what_cannot_be_compared_is_made_anew() -> None:
    generator = np.random.default_rng(0)
    call = Counted(lambda x: generator)
    assert [call(X), call(X)] == [1, 2]
    call = Counted()
    assert [call(X, generator), call(X, generator)] == [1, 2]


def test_what_holds_a_tracer_is_not_kept() -> None:
    call = Counted()
    call.count = -10
    assert [call(X), call(X), call(X)] == [-8, -6, -4]


def test_few_combinations_of_other_arguments_are_kept() -> None:
    call = Counted()
    for number in range(3 * module.MOST_STATICS):
        call(X, number)
    assert len(call.known._made) == module.MOST_STATICS
    assert call(X, 3 * module.MOST_STATICS - 1) == 3 * module.MOST_STATICS
