"""Mean and variance of slabs are merged in one sweep."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from slab_programs import check_by_slabs, executed, traced

from jaxswap._slabs.slabs import Slabs
from jaxswap._sweeps.moments import is_moments
from jaxswap._sweeps.slabbed import Slabbed, by_slabs
from jaxswap.medical.networks.instance_norm import instance_norm_leaky_relu

Array = jax.Array


def two_passes(x: Array) -> Array:
    mean = x.mean((0, 1), keepdims=True)
    return jnp.square(x - mean).mean((0, 1))


def of_product(x: Array) -> Array:
    distance = x - jnp.broadcast_to(x.mean(1, keepdims=True), x.shape)
    return (distance * distance).sum(1)


def narrow(x: Array) -> Array:
    return two_passes(x.astype(jnp.float32)).astype(x.dtype)


def moments_in(slabbed: Slabbed) -> int:
    return sum(is_moments(op.eqn) for op in slabbed.described.program.operations)


FORMS: dict[str, Callable[[Array], Array]] = {
    "two passes": two_passes,
    "variance": lambda x: jnp.var(x, axis=(0, 1)),
    "product": of_product,
    "narrow": narrow,
    "power": lambda x: ((x - x.mean(1, keepdims=True)) ** 2).sum(1),
}


def x_of(*shape: int) -> Array:
    return jax.random.normal(jax.random.key(0), shape)


@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize("count", [4, 7])
@pytest.mark.parametrize("name", FORMS)
def test_two_passes_are_one_sweep(name: str, count: int) -> None:
    def loss(x: Array) -> Array:
        return jnp.sum(jnp.tanh(FORMS[name](x) / 20))

    slabbed = check_by_slabs(loss, [x_of(2, 14, 3)], {0: 1}, count=count)
    assert moments_in(slabbed) == 1
    assert not slabbed.reasons
    forward = [s for s in slabbed.sweeps if s.level < slabbed.levels.forward_count]
    assert len(forward) == 1


OTHERS: dict[str, Callable[[Array], Array]] = {
    "of a constant": lambda x: x * np.ones((2, 14, 3), np.float32),
    "of another value": lambda x: jnp.square(x - jnp.sin(x).mean(1, keepdims=True)),
    "not the mean": lambda x: jnp.square(x - x.sum(1, keepdims=True) / 5),
    "over other axes": lambda x: jnp.square(x - x.mean((1, 2), keepdims=True)),
    "off the sliced axis": lambda x: jnp.square(x - x.mean(2, keepdims=True)),
}


@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize("name", OTHERS)
def test_other_sums_of_squares_stay_what_they_are(name: str) -> None:
    def loss(x: Array) -> Array:
        return jnp.sum(jnp.tanh(OTHERS[name](x).sum(1) / 20))

    slabbed = check_by_slabs(loss, [x_of(2, 14, 3)], {0: 1})
    assert moments_in(slabbed) == 0


def test_a_large_mean_costs_no_digits() -> None:
    def spread(x: Array) -> Array:
        return jnp.sum(two_passes(x))

    x = 1e3 + x_of(2, 16, 3)
    program = traced(spread, x)
    slabbed = by_slabs(program, Slabs(count=8), {program.operands[0]: 1})
    found, _ = executed(slabbed.program, [x])
    exact = np.var(np.asarray(x, np.float64), axis=(0, 1)).sum()
    # From the mean of squares, of 1e6, hardly a digit would be left in float32.
    assert float(found) == pytest.approx(exact, rel=1e-5)


@pytest.mark.usefixtures("lenient_promotion")
def test_normalizations_of_the_library_and_of_flax_need_one_sweep_each() -> None:
    def own(x: Array) -> Array:
        return jnp.sum(instance_norm_leaky_relu(x, jnp.ones(2), jnp.ones(2)) ** 3)

    def flax(x: Array) -> Array:
        norm = nn.GroupNorm(1, use_fast_variance=False)
        y: Any = norm.apply(norm.init(jax.random.key(0), x), x)
        return jnp.sum(y**3)

    for loss in (own, flax):
        slabbed = check_by_slabs(loss, [x_of(1, 12, 2, 2, 2)], {0: 1})
        assert slabbed.levels.forward_count == 2  # statistics, and the loss
