"""Trees of arrays: made-up ones, and whether two are the same up to rounding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def made_up(shapes: Any) -> Any:
    """Numbers in the place of shapes, sized like weights; variances are positive."""
    draw = np.random.default_rng(0)

    def numbers(path: Any, shape: jax.ShapeDtypeStruct) -> jax.Array:
        found = draw.normal(size=shape.shape) * np.prod(shape.shape[:-1]) ** -0.5
        is_variance = jax.tree_util.keystr(path, simple=True).endswith("var")
        return jnp.asarray(abs(found) + 0.5 if is_variance else found, shape.dtype)

    return jax.tree.map_with_path(numbers, shapes)


def as_numbers(leaf: Any) -> np.ndarray:
    """The leaf's entries, wide enough to be subtracted; keys as their integers."""
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf, np.float64 if _is_inexact(leaf) else np.int64)


def assert_same(actual: Any, expected: Any, rtol: float = 2e-5) -> None:
    """Same structure, shapes and types; numbers equal to rounding, integers exactly.

    An error is measured against the largest entry of its array. What is zero but for
    rounding, such as the gradient of a bias in front of a normalization, has no size of
    its own: a millionth of the largest number of all is let pass.
    """
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    found, wanted = jax.tree.leaves_with_path(actual), jax.tree.leaves(expected)
    rounding = 1e-6 * max(map(_size, wanted), default=0.0)
    for (path, a), e in zip(found, wanted, strict=True):
        where = jax.tree_util.keystr(path)
        kind = (jnp.shape(e), jnp.result_type(e))
        assert (jnp.shape(a), jnp.result_type(a)) == kind, where
        error = np.max(np.abs(as_numbers(a) - as_numbers(e)), initial=0.0)
        allowed = rtol * _size(e) + rounding if _is_inexact(e) else 0
        assert error <= allowed, f"{where}: {error} instead of {allowed}"


def distance(actual: Any, expected: Any) -> float:
    """The largest difference of two trees, as a share of the largest number."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    errors = [np.max(np.abs(as_numbers(a) - as_numbers(e))) for a, e in pairs]
    return float(max(errors) / max(map(_size, jax.tree.leaves(expected))))


def _is_inexact(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


def _size(leaf: Any) -> float:
    """The largest entry of an array of floats; integers and keys have none."""
    if not _is_inexact(leaf):
        return 0.0
    return float(np.max(np.abs(as_numbers(leaf)), initial=0.0))
