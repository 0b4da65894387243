"""Each rule: value and gradient by slabs are those of the whole program."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax import lax
from slab_programs import check_by_slabs

Array = jax.Array
PLANES = 14
SHAPE = (2, PLANES, 3)
"""Examples, planes along the sliced axis, channels."""
AXES = ("NWC", "WIO", "NWC")


def numbers(seed: int, *shape: int) -> Array:
    return jax.random.normal(jax.random.key(seed), shape)


def kernel(size: int, channels: int = 3, features: int = 2) -> Array:
    return numbers(9, size, channels, features)


def convolved(
    x: Array,
    size: int,
    pads: tuple[int, int] | str,
    stride: int = 1,
    dilation: int = 1,
    apart: int = 1,
) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel(size, x.shape[-1]) + jnp.mean(x),  # so that the kernel has a gradient
        (stride,),
        pads if isinstance(pads, str) else [pads],
        lhs_dilation=(dilation,),
        rhs_dilation=(apart,),
        dimension_numbers=AXES,
    )


def normalized(x: Array) -> Array:
    mean = x.mean((0, 1), keepdims=True)
    variance = jnp.square(x - mean).mean((0, 1), keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-3)


def softened(x: Array) -> Array:
    return x * jax.nn.softmax(x, axis=1)


def dropped(x: Array) -> Array:
    keep = jax.random.bernoulli(jax.random.key(3), 0.6, x.shape)
    return jnp.where(keep, x / 0.6, 0.0)


def counted(x: Array) -> Array:
    place = lax.broadcasted_iota(jnp.int32, x.shape, 1)
    return x * jnp.sin(place.astype(x.dtype))


def looked_up(x: Array) -> Array:
    table = numbers(5, 7, 3)
    places = jnp.abs(x[..., 0] * 3).astype(jnp.int32) % 7
    return x * table[places]


def learned(x: Array) -> Array:
    table = jnp.tanh(numbers(5, 7, 3) + jnp.mean(x))  # so that it has a gradient
    places = jnp.abs(lax.stop_gradient(x)[..., 0] * 3).astype(jnp.int32) % 7
    return x * table[places]


def picked(x: Array) -> Array:
    places = jnp.argmax(jnp.sin(9 * x), axis=2, keepdims=True)
    return jnp.take_along_axis(x, places, axis=2) ** 2


def counted_up(x: Array) -> Array:
    places = jnp.abs(x[..., 0] * 3).astype(jnp.int32) % 5
    counts = jnp.ones((5, 3), x.dtype).at[places].add(x**2)
    return x * counts.sum(0)


def written(x: Array) -> Array:
    return jnp.sin(x).at[:, :, 1].set(x[:, :, 0] ** 2)


def moved(x: Array) -> Array:
    place = jnp.int32(1) + jnp.argmax(x.sum((0, 1)))  # computed, and not sliced
    part = lax.dynamic_slice_in_dim(x, place, 2, axis=2)
    return lax.dynamic_update_slice_in_dim(jnp.cos(x), part, 1, axis=2) * x


def grouped(x: Array, kernel_groups: int, features: int) -> Array:
    own = numbers(9, 3, x.shape[-1] // kernel_groups, features) + jnp.mean(x)
    return lax.conv_general_dilated(
        x,
        own,
        (2,),
        [(1, 1)],
        dimension_numbers=AXES,
        feature_group_count=kernel_groups,
    )


def in_patches(x: Array) -> Array:
    batch, planes, channels = x.shape
    x = x.reshape(batch, planes // 2, 2 * channels).transpose(2, 1, 0)
    return jnp.tanh(x.reshape(2, channels, planes // 2, batch)) * 2


def in_planes(x: Array) -> Array:
    batch, planes, channels = x.shape
    wide = jnp.repeat(x[:, :, None, :], 2, axis=2)
    return jnp.tanh(wide.reshape(batch, 2 * planes, channels)) ** 2


def resized(x: Array, planes: int) -> Array:
    return jax.image.resize(x, (x.shape[0], planes, x.shape[2]), "nearest")


@jax.custom_vjp
def steep(x: Array) -> Array:
    return jnp.tanh(x)


steep.defvjp(lambda x: (jnp.tanh(x), x), lambda x, c: (c * jnp.cos(x),))


CASES: dict[str, Callable[[Array], Array]] = {
    "elementwise": lambda x: jnp.where(x > 0, jnp.exp(-x), 2 * x) ** 3,
    "size one": lambda x: x * x.mean(0, keepdims=True) + x.sum(2, keepdims=True),
    "broadcast": lambda x: x * numbers(1, 3) + jnp.max(x, axis=2, keepdims=True),
    "reshape": in_patches,
    "join": in_planes,
    "transpose": lambda x: jnp.sin(x.T) * numbers(2, 3, PLANES, 2),
    "concatenate": lambda x: jnp.concatenate([x, jnp.cos(x), -x], axis=2) ** 2,
    "split": lambda x: jnp.split(jnp.sin(x), 3, axis=2)[1] * x[:, :, 1:2],
    "stack": lambda x: jnp.stack([x[..., 0], jnp.cos(x[..., 1])], axis=1) ** 2,
    "stack behind": lambda x: jnp.stack([x, x**2], axis=-1).sum(2) ** 2,
    "unstack": lambda x: (
        jnp.sin(jnp.unstack(x, axis=2)[1]) * jnp.unstack(x, axis=0)[1][None, :, 0]
    ),
    "tile": lambda x: jnp.tile(x**2, (3, 1, 2)) * jnp.cos(numbers(5, 6, PLANES, 6)),
    "pad": lambda x: jnp.pad(jnp.cos(x), ((0, 0), (2, 3), (1, 0))) ** 2 + 1,
    "resized": lambda x: jnp.sin(resized(x, 3 * PLANES)) * 2,
    "resized to half": lambda x: resized(x, PLANES // 2) ** 2,
    "pad between": lambda x: lax.pad(x, 1.5, [(0, 0, 0), (1, 0, 1), (0, 0, 0)]) ** 2,
    "slice": lambda x: jnp.cos(x[:, 1:-2]) ** 2,
    "strided slice": lambda x: jnp.exp(x[:, 1::2]),
    "mirror": lambda x: x[:, :, ::-1] * jnp.cos(x),
    "sum": lambda x: x * jnp.sum(x, axis=1, keepdims=True),
    "products": lambda x: (
        x * jnp.prod(1 + 0.1 * lax.stop_gradient(x), axis=(1, 2), keepdims=True)
    ),
    "maximum": lambda x: x * jnp.max(x, axis=1, keepdims=True),
    "minimum": lambda x: x * jnp.min(x, axis=(0, 1), keepdims=True),
    "any": lambda x: x * jnp.any(x > 2, axis=1, keepdims=True),
    "place of the largest": lambda x: jnp.argmax(x, axis=2)[..., None] * x,
    "softmax": softened,
    "normalization": normalized,
    "sums so far": lambda x: jnp.cumsum(x, axis=2) ** 2,
    "sorted": lambda x: x * jnp.sort(lax.stop_gradient(x), axis=2),
    "dropout": dropped,
    "iota": counted,
    "gather": looked_up,
    "gradient of a table": learned,
    "take along": picked,
    "scatter add": counted_up,
    "scatter": written,
    "dynamic slice": moved,
    "depthwise": lambda x: grouped(x, 3, 6) ** 2,
    "grouped": lambda x: grouped(jnp.concatenate([x, x[..., :1]], -1), 2, 4) ** 2,
    "own gradient": steep,
    "pooled maximum": lambda x: nn.max_pool(x, (2,), (2,)) ** 2,
    "overlapping maximum": lambda x: nn.max_pool(x, (3,), (2,), "SAME") ** 2,
    "sparse maximum": lambda x: nn.max_pool(x, (2,), (3,)) ** 2,
    "pooled minimum": lambda x: -(nn.max_pool(-x, (3,), (1,), "SAME") ** 2),
    "pooled mean": lambda x: nn.avg_pool(x, (3,), (2,), "SAME") ** 2,
    "product": lambda x: jnp.tanh(x @ (numbers(4, 3, 5) + jnp.mean(x))),
    "product over planes": lambda x: jnp.einsum("bpc,bpd->bcd", x, jnp.sin(x)),
    "product for each plane": lambda x: jnp.einsum("bpc,dpc->pbd", x, jnp.sin(x)),
    "convolution": lambda x: convolved(x, 3, "SAME") ** 2,
    "unpadded": lambda x: convolved(x, 4, "VALID") ** 2,
    "padded more": lambda x: convolved(x, 3, (3, 2)) ** 2,
    "strided": lambda x: convolved(x, 3, (1, 1), stride=2) ** 2,
    "strided far": lambda x: convolved(x, 2, (0, 0), stride=3) ** 2,
    "spread": lambda x: convolved(x, 3, (2, 2), apart=2) ** 2,
    "transposed": lambda x: convolved(x, 3, (1, 2), dilation=2) ** 2,
    "pointwise": lambda x: convolved(x, 1, "SAME") ** 2,
    "of examples": lambda x: convolved(x.transpose(1, 0, 2), 2, "SAME") ** 2,
}


def check(name: str, count: int) -> None:
    part = CASES[name]

    def loss(x: Array) -> Array:
        # The cosine of zero is not zero: what lies beyond the volume must be filled.
        return jnp.sum(jnp.sin(part(jnp.cos(x))))

    with jax.enable_x64(True):
        x = numbers(0, *SHAPE)
        slabbed = check_by_slabs(loss, [x], {0: 1}, count=count, tolerance=1e-9)
    assert not slabbed.reasons, list(map(str, slabbed.reasons))
    assert 2 < slabbed.grid.count <= count


@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_by_slabs_are_those_of_the_whole(name: str) -> None:
    # The last of four slabs reaches beyond fourteen planes.
    check(name, 4)


@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize("name", ["sum", "pad", "slice", "convolution", "strided"])
def test_slabs_that_divide_the_planes_are_those_of_the_whole(name: str) -> None:
    check(name, 7)
