"""Random small programs by slabs: value and gradient are those of the whole."""

import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax import lax
from slab_programs import check_by_slabs

from jaxswap._slabs.frame import Frame
from jaxswap._slabs.hosted import swappable

Array = jax.Array
Layer = Callable[[Array], Array]


def convolution(rng: random.Random, x: Array) -> Array:
    size, stride = rng.choice((1, 2, 3)), rng.choice((1, 1, 2))
    padding = [(rng.choice((0, size // 2)), size // 2)]
    shape = (size, x.shape[-1], rng.choice((2, 3)))
    kernel = jax.random.normal(jax.random.key(rng.randrange(99)), shape, x.dtype)
    kernel = kernel * (1 + jnp.mean(x))  # so that it has a gradient
    axes = ("NWC", "WIO", "NWC")
    return lax.conv_general_dilated(
        x, kernel, (stride,), padding, dimension_numbers=axes
    )


def normalization(rng: random.Random, x: Array) -> Array:
    del rng
    centred = x - x.mean((0, 1), keepdims=True)
    variance = jnp.square(centred).mean((0, 1), keepdims=True)
    return centred * lax.rsqrt(variance + 0.1)


def pooling(rng: random.Random, x: Array) -> Array:
    pool = rng.choice((nn.max_pool, nn.avg_pool))
    return pool(x, (2,), (rng.choice((1, 2)),), rng.choice(("SAME", "VALID")))


def finer(rng: random.Random, x: Array) -> Array:
    del rng
    return jnp.repeat(x, 2, axis=1) if x.shape[1] < 20 else x


def joined(rng: random.Random, x: Array) -> Array:
    return jnp.concatenate([x, jnp.cos(rng.random() * x)], axis=-1)


def residual(rng: random.Random, x: Array) -> Array:
    return x + jnp.sin(x) * jnp.max(x, axis=rng.choice((1, 2)), keepdims=True)


def product(rng: random.Random, x: Array) -> Array:
    del rng
    return jnp.tanh(x @ jnp.einsum("bpc,bpd->cd", x, x)) / x.shape[1]


def looked_up(rng: random.Random, x: Array) -> Array:
    places = jnp.argmax(jnp.sin(9 * x), axis=2, keepdims=True)
    table = jnp.sin(jnp.arange(6.0).reshape(3, 2) + jnp.mean(x)).astype(x.dtype)
    rows = table[places[..., 0] + rng.choice((0, 1))].sum(-1, keepdims=True)
    return x * rows + jnp.take_along_axis(x, places, axis=2)


def depthwise(rng: random.Random, x: Array) -> Array:
    channels = x.shape[-1]
    kernel = jnp.cos(jnp.arange(2.0 * channels)).reshape(2, 1, channels)
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype) * (1 + jnp.mean(x)),
        (rng.choice((1, 2)),),
        [(1, 0)],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=channels,
    )


LAYERS = (convolution, convolution, normalization, pooling, finer, joined, residual)
LAYERS += (product, normalization, looked_up, depthwise)


def drawn(seed: int) -> Layer:
    """Return a loss of some random layers."""

    def loss(x: Array) -> Array:
        rng = random.Random(seed)
        for _ in range(rng.choice((3, 4))):
            if x.shape[1] > 4:
                x = jnp.tanh(rng.choice(LAYERS)(rng, x) + 0.3)
        return jnp.sum(jnp.sin(3 * x))

    return loss


@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize("seed", range(16))
def test_random_programs_by_slabs_are_those_of_the_whole(seed: int) -> None:
    rng = random.Random(seed)
    planes, count = rng.choice((16, 18, 19)), rng.choice((2, 4, 5))
    share = rng.random()

    def some(frame: Frame, *_: object) -> frozenset[int]:
        floating = sorted(frame.floating)
        return frozenset(v for v in floating if rng.random() < share)

    def half(*program: Any) -> frozenset[int]:
        return frozenset(v for v in swappable(*program) if rng.random() < 0.5)

    levels = rng.choice((1, 2))
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(seed), (2, planes, 2), jnp.float64)
        check_by_slabs(
            drawn(seed),
            [x],
            {0: 1},
            count=count,
            levels=levels,
            store=some,
            swap=half if seed % 2 else None,
            tolerance=1e-9,
        )
