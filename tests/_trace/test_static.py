"""Arguments that are named as static hold no arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxswap._trace.static import Static

X = jnp.ones(3)


def check(argnums: Any, argnames: Any, *args: Any, **kwargs: Any) -> None:
    is_array = lambda leaf: isinstance(leaf, jax.Array)  # noqa: E731
    Static.of(argnums, argnames).check(args, kwargs, is_array)


def test_static_arguments_may_be_anything_but_arrays() -> None:
    check(1, "train", X, 3, train=True)
    check((-1, 1), ["train", "missing"], X, {"rows": 3}, train=None)


@pytest.mark.parametrize(
    ("argnums", "argnames", "error", "message"),
    [
        (0, (), TypeError, "argument 0 is in `static_argnums`, but it holds an array"),
        (-2, (), TypeError, "argument -2 is in `static_argnums`"),
        ((), "x", TypeError, "`x` is in `static_argnames`, but it holds an array"),
        (2, (), ValueError, "holds 2, but the function is given 2 positional"),
        ("x", (), TypeError, "`static_argnums` is 'x'; it must be a number"),
        (1.5, (), TypeError, "`static_argnums` is 1.5"),
        ((), 3, TypeError, "`static_argnames` is 3; it must be a name"),
    ],
)
def test_wrong_ones_are_named(
    argnums: Any, argnames: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        check(argnums, argnames, X, 3, x=X)
