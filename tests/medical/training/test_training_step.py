"""One optimizer step, swapped and plain."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_networks import OneConvolution

import jaxswap
from jaxswap.medical.data.label_maps import LABEL_MAPS
from jaxswap.medical.networks.layers import CPU
from jaxswap.medical.networks.residual_unet import ResidualUNet3D
from jaxswap.medical.networks.unet import UNet3D
from jaxswap.medical.training.training_step import (
    State,
    draw_parameters,
    initialize,
    make_loss,
    make_step,
)

TUMOUR = LABEL_MAPS["brats2021"]
UNET = UNet3D(
    base_filters=2, depth=2, segmentation_levels=1, dtype=jnp.float32, layers=CPU
)
SHAPE = (1, 8, 8, 8, 2)
ADAM: Any = optax.adam(1e-2)


@pytest.fixture(autouse=True)
def _lenient_promotion():
    """Optax mixes integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def batch(number: int) -> tuple[jax.Array, jax.Array]:
    image = jax.random.normal(jax.random.key(number), SHAPE)
    labels = jnp.where(image[..., 0] > 0.5, 4, jnp.where(image[..., 1] > 0, 2, 0))
    return image, labels.astype(jnp.uint8)


@functools.cache
def first_state(optimizer: Any, decay: float) -> State:
    return initialize(UNET, optimizer, SHAPE, average_decay=decay)


def losses(policy: Any, steps: int, **options: Any) -> tuple[list[float], State]:
    optimizer = options.pop("optimizer", ADAM)
    loss = make_loss(UNET, TUMOUR)
    if policy != "plain":
        loss = jaxswap.offload(loss, policy=policy)
    step = make_step(loss, optimizer, **options)
    # A step takes the memory of the state it is given.
    first = first_state(optimizer, options.get("average_decay", 0.0))
    state = jax.tree.map(jnp.copy, first)
    found = []
    for number in range(steps):
        state, outcome = step(state, *batch(number % 4))
        found.append(float(outcome.loss))
    return found, state


@functools.cache
def swapped() -> tuple[list[float], State]:
    """What 100 steps with the default policy come to."""
    return losses(None, 100)


@pytest.mark.slow
def test_swapped_and_plain_training_agree_over_100_steps() -> None:
    plain, _ = losses("plain", 100)
    assert plain[-1] < plain[0] - 0.3
    for found, _ in (losses(jaxswap.OFFLOAD, 100), swapped()):
        np.testing.assert_allclose(found, plain, rtol=0, atol=2e-3)
        np.testing.assert_allclose(found[:10], plain[:10], rtol=0, atol=2e-5)


def test_a_step_that_swaps_is_compiled_once() -> None:
    loss = jaxswap.offload(make_loss(UNET, TUMOUR), policy=lambda _: jaxswap.OFFLOAD)
    step: Any = make_step(loss, ADAM)
    state = jax.tree.map(jnp.copy, first_state(ADAM, 0.0))
    for number in range(3):
        state, _ = step(state, *batch(number))
    assert step._chosen._cache_size() == 1


def test_updates_are_those_of_the_given_rate() -> None:
    optimizer = optax.sgd(1.0)
    step: Any = make_step(make_loss(UNET, TUMOUR), optimizer)
    before = initialize(UNET, optimizer, SHAPE).parameters
    moved = []
    for rate in (0.5, 0.25):
        state, _ = step(initialize(UNET, optimizer, SHAPE), *batch(0), np.float32(rate))
        moved.append(optax.tree.norm(optax.tree.sub(state.parameters, before)))
    assert float(moved[0]) == pytest.approx(2 * float(moved[1]), rel=1e-4)


def test_dropout_depends_on_seed_and_step_alone() -> None:
    first, state = losses(None, 3)
    assert first == swapped()[0][:3]
    assert first != losses(None, 3, seed=1)[0]
    assert int(state.step) == 3


def test_average_follows_the_parameters() -> None:
    _, state = losses(None, 5, average_decay=0.5)
    assert state.evaluated is state.average
    away = jax.tree.map(jnp.subtract, state.parameters, state.average)
    assert 0 < max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(away)) < 0.1
    _, without = swapped()
    assert without.evaluated is without.parameters


def test_optimizer_state_may_live_on_the_host() -> None:
    on_host = jaxswap.host_state(optax.adam(1e-2), min_bytes=0)
    found, state = losses(None, 4, optimizer=on_host)
    assert found == swapped()[0][:4]
    kinds = {
        leaf.sharding.memory_kind
        for leaf in jax.tree.leaves(state.optimizer_state)
        if leaf.ndim
    }
    assert kinds == {"pinned_host"}


def test_deep_supervision_trains_every_head() -> None:
    unet = ResidualUNet3D(2, (2, 2, 2), (1, 1, 1), dtype=jnp.float32, layers=CPU)
    label_map = LABEL_MAPS["brats2024-men-rt"]
    loss = make_loss(unet, label_map, is_deeply_supervised=True)
    image, _ = batch(0)
    labels = (image[..., 0] > 0).astype(jnp.uint8)
    init = jax.jit(functools.partial(unet.init, all_levels=True))
    parameters = init(jax.random.key(0), image)
    gradient = jax.jit(jax.grad(loss))(parameters, image, labels, jax.random.key(0))
    norms = {name: float(optax.tree.norm(g)) for name, g in gradient["params"].items()}
    assert norms["decoder0_head"] > 0


@pytest.mark.usefixtures("all_optimizations")
def test_parameters_are_those_of_an_optimized_program() -> None:
    network, shape = OneConvolution(), (1, 4, 4, 4, 2)
    optimized = jax.jit(lambda key: network.init(key, jnp.zeros(shape)))
    drawn = draw_parameters(network, shape, 3)
    for found, expected in zip(
        jax.tree.leaves(drawn),
        jax.tree.leaves(optimized(jax.random.key(3))),
        strict=True,
    ):
        assert np.array_equal(found, expected)
