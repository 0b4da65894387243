"""The lean normalization against the one that autodiff takes apart."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec
from jax.test_util import check_grads

from jaxswap.medical.networks.instance_norm import (
    instance_norm_leaky_relu,
    instance_norm_leaky_relu_textbook,
    moments_of,
)


def _inputs(dtype, offset=0.0):
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (2, 4, 5, 6, 3)) * 2 + offset
    scale = 1 + 0.3 * jax.random.normal(keys[1], (3,))
    bias = 0.3 * jax.random.normal(keys[2], (3,))
    cotangent = jax.random.normal(keys[3], x.shape)
    return x.astype(dtype), scale, bias, cotangent.astype(dtype)


def _value_and_gradients(normalize, x, scale, bias, cotangent):
    value, pullback = jax.vjp(normalize, x, scale, bias)
    return value, *pullback(cotangent)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(jnp.float32, 2e-5), (jnp.bfloat16, 3e-2)]
)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_value_and_gradients_are_the_textbook_ones(dtype, tolerance, offset):
    inputs = _inputs(dtype, offset)
    lean = _value_and_gradients(instance_norm_leaky_relu, *inputs)
    textbook = _value_and_gradients(instance_norm_leaky_relu_textbook, *inputs)
    for found, expected in zip(lean, textbook, strict=True):
        assert found.dtype == expected.dtype
        largest = float(jnp.abs(expected).max())
        np.testing.assert_allclose(
            found.astype(jnp.float32),
            expected.astype(jnp.float32),
            atol=tolerance * largest,
        )


def test_gradients_are_those_of_finite_differences():
    with jax.enable_x64(True):
        x, scale, bias, _ = (leaf.astype(jnp.float64) for leaf in _inputs(jnp.float32))
        check_grads(
            partial(instance_norm_leaky_relu, epsilon=0.5),
            (x, scale, bias),
            order=1,
            modes=["rev"],
        )


def test_a_constant_channel_has_a_finite_gradient():
    x, scale, bias, cotangent = _inputs(jnp.float32)
    x = x.at[..., 1].set(0.0)
    gradients = _value_and_gradients(
        instance_norm_leaky_relu, x, scale, bias, cotangent
    )
    assert all(jnp.isfinite(leaf).all() for leaf in gradients)


def test_only_the_input_and_small_arrays_wait_for_the_backward_pass():
    x, scale, bias, _ = _inputs(jnp.bfloat16)
    _, pullback = jax.vjp(instance_norm_leaky_relu, x, scale, bias)
    large = [leaf for leaf in jax.tree.leaves(pullback) if leaf.size >= x.size]
    assert [leaf.dtype for leaf in large] == [jnp.bfloat16]


def _with_known_moments(x, scale, bias):
    return instance_norm_leaky_relu(x, scale, bias, moments=moments_of(x))


@pytest.mark.parametrize("normalize", [instance_norm_leaky_relu, _with_known_moments])
def test_samples_of_several_devices_have_the_gradients_of_one(normalize):
    """In a `jax.shard_map` with its checks. Scale and bias are shared, samples not."""
    inputs = _inputs(jnp.float32)
    mesh = Mesh(jax.devices()[:2], "batch", axis_types=(AxisType.Auto,))
    split, shared = PartitionSpec("batch"), PartitionSpec()
    mapped = jax.shard_map(
        partial(_value_and_gradients, normalize),
        mesh=mesh,
        in_specs=(split, shared, shared, split),
        out_specs=(split, split, shared, shared),
    )
    expected = _value_and_gradients(instance_norm_leaky_relu, *inputs)
    for found, right in zip(jax.jit(mapped)(*inputs), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)
