"""The place of an extreme along the sliced axis, found slab after slab."""

import random
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from slab_programs import check_by_slabs

Array = jax.Array
PLANES = 14
FIND: dict[str, Callable[..., Array]] = {"largest": jnp.argmax, "smallest": jnp.argmin}
KINDS = ("numbers", "equals", "no numbers", "infinite", "integers", "truths")


def drawn(kind: str, seed: int) -> np.ndarray:
    """Return numbers of which many are equal, infinite, or none."""
    rng = random.Random(seed)
    some: dict[str, list[float]] = {
        "numbers": [rng.gauss(0, 1) for _ in range(40)],
        "equals": [-0.0, 0.0, 1.0],
        "no numbers": [0.0, 1.0, float("nan")],
        "infinite": [float("inf"), float("-inf")],
        "integers": [-128, 127, 0],
        "truths": [0, 1],
    }
    dtype = {"integers": np.int8, "truths": np.bool_}.get(kind, np.float32)
    taken = [rng.choice(some[kind]) for _ in range(2 * PLANES * 5)]
    return np.array(taken, dtype).reshape(2, PLANES, 5)


def nothing(*_: object) -> frozenset[int]:
    """Return what lies in host memory."""
    return frozenset()


@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize("name", FIND)
@pytest.mark.parametrize("count", [4, 6, 7])
def test_places_by_slabs_are_those_of_the_whole(name: str, count: int) -> None:
    # Alike in each plane: what is filled in beyond the planes is no better.
    alike = [np.full((2, PLANES, 5), x) for x in (np.inf, -np.inf, np.nan)]
    given = [drawn(kind, seed) for seed, kind in enumerate(KINDS)]
    given += [x.astype(np.float32) for x in alike]

    def loss(x: Array, *given: Array) -> Array:
        # A digit for each place, so no two results are equal.
        weights = jnp.cos(jnp.arange(10.0).reshape(2, 5) + x.mean())
        found = [FIND[name](numbers, axis=1) for numbers in (x, *given)]
        return sum(jnp.sum(weights * place) for place in found) + jnp.sum(x**2)

    axes = dict.fromkeys(range(len(given) + 1), 1)
    with jax.enable_x64(True):
        args = [jnp.asarray(drawn("numbers", 9), jnp.float64), *map(jnp.asarray, given)]
        # In pairs: of six slabs of three planes, the last one is beyond the planes.
        slabbed = check_by_slabs(
            loss, args, axes, count=count, swap=nothing, tolerance=1e-12
        )
    assert not slabbed.reasons


@pytest.mark.usefixtures("lenient_promotion")
def test_a_place_is_read_by_the_next_sweep() -> None:
    def loss(x: Array) -> Array:
        place = jnp.argmax(jnp.sin(9 * x), axis=1, keepdims=True)
        planes = lax.broadcasted_iota(jnp.int32, x.shape, 1)
        return jnp.sum(jnp.where(planes == place, x**2, 0.1 * x))

    x = jax.random.normal(jax.random.key(0), (2, PLANES, 3))
    slabbed = check_by_slabs(loss, [x], {0: 1})
    assert not slabbed.reasons
