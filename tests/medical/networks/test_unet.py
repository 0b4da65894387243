"""The network: shapes, sizes it refuses, and three sets of layers that agree."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxswap.medical.networks import convolution, convolution_cpu
from jaxswap.medical.networks.layers import CPU, LEAN, TEXTBOOK
from jaxswap.medical.networks.losses import dice_loss
from jaxswap.medical.networks.unet import PAPER, TINY, UNet3D


def test_published_parameter_counts():
    counts = {}
    for head in ("normalized", "bare"):
        volume = jax.ShapeDtypeStruct((1, 16, 16, 16, 4), jnp.float32)
        variables = jax.eval_shape(UNet3D(head=head).init, jax.random.key(0), volume)
        counts[head] = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert counts == {"normalized": 8_269_579, "bare": 8_269_561}


@pytest.mark.parametrize(
    ("unet", "shape"),
    [
        (TINY, (2, 4, 8, 12, 1)),
        (UNet3D(base_filters=2), (1, 16, 16, 32, 4)),
        (UNet3D(base_filters=2, depth=2, segmentation_levels=1), (1, 2, 4, 6, 3)),
        (UNet3D(base_filters=2, depth=3, segmentation_levels=2, classes=7), None),
    ],
)
def test_one_logit_a_class_and_voxel(unet, shape):
    volume = jax.ShapeDtypeStruct(shape or (1, 8, 8, 8, 1), jnp.float32)
    logits, _ = jax.eval_shape(unet.init_with_output, jax.random.key(0), volume)
    assert logits.shape == (*volume.shape[:-1], unet.classes)
    assert logits.dtype == jnp.bfloat16


def test_parameters_are_float32():
    variables = jax.eval_shape(TINY.init, jax.random.key(0), jnp.zeros((1, 4, 4, 4, 1)))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 16, 20, 16, 1), "height of the volume is 20 .* multiple of 16.* 16 or 32"),
        ((1, 8, 16, 16, 1), "depth of the volume is 8 .* pad it to 16"),
        ((1, 16, 16, 0, 1), "width of the volume is 0 "),
        ((16, 16, 16, 1), r"five axes .* shape is \(16, 16, 16, 1\)"),
    ],
)
def test_volumes_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(PAPER.init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 1}, "`depth` is 1"),
        ({"depth": 3, "segmentation_levels": 3}, "needs to be 1 to 2"),
        ({"segmentation_levels": 0}, "`segmentation_levels` is 0"),
        ({"head": "normalised"}, "choose 'bare' or 'normalized'"),
    ],
)
def test_ill_configurations_are_refused(fields: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            PAPER.clone(**fields).init, jax.random.key(0), jnp.zeros((1, 16, 16, 16, 1))
        )


def test_convolution_names_are_the_paths_of_all_kernels():
    unet = UNet3D(base_filters=2)
    variables = jax.eval_shape(
        unet.init, jax.random.key(0), jnp.zeros((1,) + (16,) * 4)
    )
    flat = flatten_dict(variables["params"], sep="/")
    kernels = {path.removesuffix("/kernel") for path in flat if path.endswith("kernel")}
    assert set(unet.convolution_names) == kernels
    assert len(unet.convolution_names) == 30


def test_convolution_names_are_given_to_the_values():
    volume = jnp.zeros((1,) + (16,) * 4)
    unet = UNet3D(base_filters=2)
    jaxpr = str(jax.make_jaxpr(unet.init_with_output)(jax.random.key(0), volume))
    assert all(f"[name={name}]" in jaxpr for name in unet.convolution_names)


def test_biases_that_normalization_cancels_are_not_trained():
    unet = PAPER.clone(base_filters=2, depth=2, segmentation_levels=1, layers=CPU)
    volume = jax.random.normal(jax.random.key(1), (1, 4, 4, 4, 1))
    variables = jax.jit(unet.init)(jax.random.key(0), volume)

    def loss(variables):
        logits: Any = unet.apply(variables, volume)
        return jnp.sum(logits[..., 0])

    gradient = jax.jit(jax.grad(loss))(variables)
    flat: Any = flatten_dict(gradient["params"], sep="/")
    assert not any(np.any(flat[f"{name}/bias"]) for name in unet.convolution_names)


@pytest.mark.parametrize("layers", [LEAN, CPU])
def test_layer_sets_have_the_textbook_value_and_gradient(layers):
    fields: dict[str, Any] = {
        "base_filters": 2,
        "depth": 2,
        "segmentation_levels": 1,
    }
    textbook = UNet3D(**fields, dtype=jnp.float32, layers=TEXTBOOK)
    images = jax.random.normal(jax.random.key(1), (2, 4, 6, 8, 2))
    targets = jax.random.bernoulli(jax.random.key(2), 0.3, (2, 4, 6, 8, 3))
    variables = jax.jit(textbook.init)(jax.random.key(0), images)

    def run(unet):
        def loss(variables):
            return dice_loss(unet.apply(variables, images), targets)

        return jax.jit(jax.value_and_grad(loss))(variables)

    value, gradient = run(textbook.clone(layers=layers))
    expected_value, expected_gradient = run(textbook)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    for leaf, expected in zip(
        jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True
    ):
        np.testing.assert_allclose(leaf, expected, atol=2e-5, rtol=2e-3)


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (convolution.convolve_upsampled, convolution.convolve_upsampled_textbook),
        (
            convolution_cpu.convolve_upsampled_slices,
            convolution.convolve_upsampled_textbook,
        ),
        (convolution_cpu.convolve_slices, convolution.convolve),
        (convolution_cpu.convolve_strided_slices, convolution.convolve_strided),
    ],
)
def test_convolutions_have_the_reference_value_and_gradient(function, reference):
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 8, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 3, 5))

    def run(convolve):
        return jax.value_and_grad(
            lambda x, kernel: jnp.sin(convolve(x, kernel)).sum(), (0, 1)
        )(x, kernel)

    for leaf, expected in zip(
        jax.tree.leaves(run(function)), jax.tree.leaves(run(reference)), strict=True
    ):
        np.testing.assert_allclose(leaf, expected, rtol=1e-3, atol=1e-3)


def test_upsampled_convolution_takes_only_3x3x3_kernels():
    with pytest.raises(ValueError, match="must be 3x3x3"):
        convolution.convolve_upsampled(
            jnp.zeros((1, 2, 2, 2, 1)), jnp.zeros((1, 1, 1, 1, 1))
        )


def test_dropout_acts_only_when_asked():
    unet = UNet3D(
        base_filters=2,
        depth=2,
        segmentation_levels=1,
        dropout=0.5,
        dtype=jnp.float32,
        layers=CPU,
    )
    volume = jax.random.normal(jax.random.key(1), (1, 4, 4, 4, 1))
    variables = jax.jit(unet.init)(jax.random.key(0), volume)
    quiet: Any = unet.apply(variables, volume)
    dropped: Any = unet.apply(
        variables,
        volume,
        deterministic=False,
        rngs={"dropout": jax.random.key(3)},
    )
    np.testing.assert_array_equal(quiet, unet.apply(variables, volume))
    assert not np.allclose(quiet, dropped)
