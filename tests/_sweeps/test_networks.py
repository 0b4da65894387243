"""Networks with their losses by slabs: the library's own, and one in plain Flax."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from slab_programs import executed

from jaxswap._run.loss import loss_source
from jaxswap._search.ways import keep_all
from jaxswap._slabs.slabs import Slabs
from jaxswap._sweeps.slabbed import Slabbed, by_slabs
from jaxswap.medical.networks.losses import dice_loss
from jaxswap.medical.networks.residual_unet import ResidualUNet3D
from jaxswap.medical.networks.unet import UNet3D

Array = jax.Array


class Plain(nn.Module):
    """A small U-Net as users write it."""

    @nn.compact
    def __call__(self, x: Array, **_: Any) -> Array:
        """Return logits, (batch, x, y, z, class)."""
        x = nn.relu(nn.GroupNorm(2)(nn.Conv(4, (3, 3, 3))(x)))
        y = nn.max_pool(x, (2, 2, 2), (2, 2, 2))
        # With a bias, its gradient would be nothing but rounding.
        y = nn.Conv(4, (3, 3, 3), use_bias=False)(y)
        y = nn.gelu(nn.BatchNorm(use_running_average=False)(y))
        y = nn.ConvTranspose(4, (2, 2, 2), (2, 2, 2))(y)
        y = nn.Dropout(0.2, deterministic=False)(jnp.concatenate([x, y], axis=-1))
        # Where dropout leaves hardly anything, a usual epsilon magnifies rounding.
        return nn.Conv(3, (1, 1, 1))(nn.LayerNorm(epsilon=1e-3)(y))


def problem(network: nn.Module, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a loss and its arguments; parameters are moved away from ones and zeros.

    Otherwise gradients are zero that are none elsewhere.
    """
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (*shape, 2), dtype)
    target = (jax.random.uniform(keys[1], (*shape, 3)) < 0.3).astype(jnp.int8)
    variables = jax.jit(network.init)({"params": keys[2], "dropout": keys[2]}, x)
    leaves, structure = jax.tree.flatten(variables)
    moved = [
        leaf + 0.1 * jax.random.normal(jax.random.fold_in(keys[3], i), leaf.shape)
        for i, leaf in enumerate(leaves)
    ]
    variables = jax.tree.unflatten(structure, moved)

    def loss(parameters: Any, x: Array, key: Array) -> Array:
        logits, _ = network.apply(
            {**variables, "params": parameters},
            x,
            deterministic=False,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return dice_loss(logits, target)

    return loss, (variables["params"], x, keys[3])


def difference(loss: Any, args: Any, **setting: Any) -> tuple[float, Slabbed]:
    """Return how far value and gradient by slabs are from those of the whole.

    That is the largest difference in an array, as a share of its largest number, or of
    a thousandth of the largest number in all gradients.
    """
    program = loss_source(loss, args, {}, 0, False).traced(keep_all).program
    slabbed = by_slabs(program, Slabs(**setting))
    closed = jax.make_jaxpr(loss)(*args)
    operands = [*closed.consts, *jax.tree.leaves(args)]

    def both(*operands: Any) -> Any:
        return executed(program, operands), executed(slabbed.program, operands)

    whole, found = jax.jit(both)(*operands)
    least = 1e-3 * max(float(jnp.abs(x).max()) for x in whole[1:])
    shares = [
        float(jnp.abs(x - y).max()) / max(least, float(jnp.abs(x).max()))
        for x, y in zip(whole, found, strict=True)
    ]
    return max(shares), slabbed


NETWORKS = {
    "unet": UNet3D(
        base_filters=2, depth=2, segmentation_levels=1, dropout=0.3, dtype="float64"
    ),
    "residual": ResidualUNet3D(features=(2, 4), blocks=(1, 1), dtype="float64"),
    "plain": Plain(),
}


@pytest.mark.slow
@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_by_slabs_is_the_whole_network(name: str) -> None:
    with jax.enable_x64(True):
        loss, args = problem(NETWORKS[name], (1, 16, 4, 4), jnp.float64)
        found, slabbed = difference(loss, args, count=3, levels=2)
    assert found < 2e-6  # The loss itself is in float32.
    assert not slabbed.reasons, list(map(str, slabbed.reasons))


@pytest.mark.slow
@pytest.mark.usefixtures("lenient_promotion")
def test_a_network_in_float32_is_near() -> None:
    loss, args = problem(Plain(), (1, 16, 8, 8), jnp.float32)
    found, slabbed = difference(loss, args, count=4)
    assert found < 2e-5
    assert not slabbed.reasons
