"""The residual-encoder U-Net."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxswap
from jaxswap.medical.networks import convolution, convolution_cpu
from jaxswap.medical.networks.layers import CPU, LEAN
from jaxswap.medical.networks.residual_unet import ResidualUNet3D

TINY: dict[str, Any] = {"classes": 2, "features": (2, 4, 4), "blocks": (1, 2, 1)}


def test_preset_has_the_parameters_of_its_paper() -> None:
    """102 million, in nnU-Net Revisited's ResEnc L."""
    volume = jax.ShapeDtypeStruct((1, 64, 64, 64, 4), jnp.float32)
    shapes = jax.eval_shape(ResidualUNet3D().init, jax.random.key(0), volume)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert 101.5e6 < count < 102.5e6


def test_each_level_has_logits_of_its_size() -> None:
    unet = ResidualUNet3D(**TINY, dtype=jnp.float32, layers=CPU)
    volume = jnp.ones((1, 8, 12, 16, 3))
    init = jax.jit(functools.partial(unet.init_with_output, all_levels=True))
    levels, parameters = init(jax.random.key(0), volume)
    assert [x.shape for x in levels] == [(1, 8, 12, 16, 2), (1, 4, 6, 8, 2)]
    np.testing.assert_array_equal(jax.jit(unet.apply)(parameters, volume), levels[0])


def test_lean_and_cpu_layers_are_one_function() -> None:
    volume = jax.random.normal(jax.random.key(1), (1, 8, 8, 8, 2))
    lean = ResidualUNet3D(**TINY, dtype=jnp.float32, layers=LEAN)
    parameters = jax.jit(lean.init)(jax.random.key(0), volume)
    other = ResidualUNet3D(**TINY, dtype=jnp.float32, layers=CPU)

    def loss(unet: Any) -> Any:
        return jax.jit(
            jax.value_and_grad(lambda p: jnp.mean(unet.apply(p, volume) ** 2))
        )(parameters)

    for a, b in zip(
        jax.tree.leaves(loss(lean)), jax.tree.leaves(loss(other)), strict=True
    ):
        scale = float(jnp.max(jnp.abs(a))) + 1e-6
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * scale)


def test_offloaded_gradient_is_the_plain_one() -> None:
    volume = jax.random.normal(jax.random.key(1), (1, 8, 8, 8, 2))
    unet: Any = ResidualUNet3D(**TINY, dtype=jnp.float32, layers=CPU)
    parameters = jax.jit(unet.init)(jax.random.key(0), volume)

    def loss(parameters: Any) -> jax.Array:
        return jnp.mean(unet.apply(parameters, volume) ** 2)

    plain = jax.jit(jax.grad(loss))(parameters)
    offloaded = jaxswap.offload(loss, policy=jaxswap.OFFLOAD)
    swapped = jax.jit(jax.grad(offloaded))(parameters)
    for a, b in zip(jax.tree.leaves(swapped), jax.tree.leaves(plain), strict=True):
        scale = float(jnp.max(jnp.abs(b))) + 1e-6
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * scale)


def test_transposed_convolution_spreads_each_voxel() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 2, 3, 4, 3))
    kernel = jax.random.normal(jax.random.key(1), (2, 2, 2, 3, 5))
    fine = convolution.convolve_transposed(x, kernel)
    expected = np.einsum("c,cf->f", x[1, 0, 2, 3], kernel[1, 0, 1])
    np.testing.assert_allclose(fine[1, 1, 4, 7], expected, rtol=1e-5, atol=1e-5)
    on_cpu = convolution_cpu.convolve_transposed_slices(x, kernel)
    np.testing.assert_allclose(on_cpu, fine, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="must be 2x2x2"):
        convolution.convolve_transposed(x, jnp.ones((3, 3, 3, 3, 5)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": (2,), "blocks": (1,)}, "at least two levels"),
        ({"features": (2, 4), "blocks": (1,)}, "one number for each level"),
        ({"features": (2, 4), "blocks": (1, 0)}, "must be positive"),
    ],
)
def test_wrong_configurations_are_refused(fields: dict[str, Any], message: str) -> None:
    unet = ResidualUNet3D(**(TINY | fields))
    with pytest.raises(ValueError, match=message):
        unet.init(jax.random.key(0), jnp.ones((1, 8, 8, 8, 1)))


def test_sides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        ResidualUNet3D(**TINY).init(jax.random.key(0), jnp.ones((1, 8, 6, 8, 1)))
