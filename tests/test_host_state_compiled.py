"""Steps whose optimizers have their states on the host, compiled for GPUs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import (
    AbstractMesh,
    AxisType,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
)
from optimizers import ADAM, HOST, OPTIMIZERS, Struct, layer_params

import jaxswap
from jaxswap import host_state

pytestmark = pytest.mark.usefixtures("all_optimizations", "lenient_promotion")


def described(tx: Any, params: Any) -> Any:
    """The state of `tx` where it will be, without making it."""
    pinned = SingleDeviceSharding(jax.devices()[0], memory_kind="pinned_host")
    traced, shapes = jax.make_jaxpr(tx.init, return_shape=True)(params)
    leaves = [
        Struct(a.shape, a.dtype, sharding=pinned if a.memory_space == HOST else None)
        for a in traced.out_avals
    ]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


# Compiled for GPUs


LAYERS, WIDTH = 24, 1024
LEAF = WIDTH * WIDTH * 4
WEIGHTS = LAYERS * LEAF


def layers_loss(params: Any, x: jax.Array) -> jax.Array:
    for layer in params:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return jnp.mean(x**2)


@functools.cache
def seen(
    name: str, is_swapped: bool, target: str, strict: bool = False
) -> jaxswap.Evidence:
    tx = OPTIMIZERS[name]
    if is_swapped:
        tx = host_state(tx)

    def whole_step(params: Any, state: Any, x: jax.Array) -> Any:
        gradients = jax.grad(layers_loss)(params, x)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    params = layer_params(LAYERS, WIDTH)
    return jaxswap.inspect(
        jax.jit(whole_step, donate_argnums=(0, 1)),
        params,
        described(tx, params),
        Struct((512, WIDTH), jnp.float32),
        target=target,
        compiler_options=jaxswap.compiler_options(),
        strict=strict,
    )


@pytest.mark.parametrize("target", ["h100", "a100-40"])
def test_adam_is_gone_from_the_device(target: str) -> None:
    plain, swapped = seen("adam", False, target), seen("adam", True, target)
    saved = plain.device_bytes - swapped.device_bytes
    assert saved >= 1.8 * WEIGHTS
    assert plain.argument_bytes - swapped.argument_bytes == 2 * WEIGHTS
    assert swapped.temp_bytes <= plain.temp_bytes + 6 * LEAF
    # The new state takes the place of the old.
    assert swapped.host_bytes == 2 * WEIGHTS
    assert swapped.swapped_bytes == 4 * WEIGHTS


@pytest.mark.parametrize("target", ["h100", "a100-40"])
def test_copies_run_beside_the_backward_pass(target: str) -> None:
    # A copy that shares its gap between two products with another one is exposed.
    assert seen("adam", True, target).hidden_fraction >= 0.4


@pytest.mark.parametrize("is_split", [False, True])
def test_adam_is_gone_from_each_of_four_gpus(is_split: bool) -> None:
    mesh = AbstractMesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    own = rows if is_split else NamedSharding(mesh, PartitionSpec())
    params = jax.tree.map(
        lambda leaf: Struct(leaf.shape, leaf.dtype, sharding=own),
        layer_params(6, WIDTH),
    )
    batch = Struct((4 * 512, WIDTH), jnp.float32, sharding=rows)
    weights = 6 * WIDTH * WIDTH * 4 // (4 if is_split else 1)

    def compiled(tx: Any, memory_kind: str) -> jaxswap.Evidence:
        def whole_step(params: Any, state: Any, x: jax.Array) -> Any:
            gradients = jax.grad(layers_loss)(params, x)
            updates, state = tx.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        def place(leaf: Any) -> Any:
            kind = memory_kind if leaf.ndim == 2 else "device"
            sharding = own.with_memory_kind(kind) if leaf.ndim else None
            return Struct(leaf.shape, leaf.dtype, sharding=sharding)

        state = jax.tree.map(place, jax.eval_shape(tx.init, layer_params(6, WIDTH)))
        step = jax.jit(whole_step, donate_argnums=(0, 1))
        options = jaxswap.compiler_options()
        return jaxswap.inspect(
            step, params, state, batch, target="h100", compiler_options=options
        )

    plain = compiled(ADAM, "device")
    swapped = compiled(host_state(ADAM, min_bytes=WIDTH * WIDTH), "pinned_host")
    assert plain.argument_bytes - swapped.argument_bytes == 2 * weights
    assert swapped.host_bytes == 2 * weights
    assert swapped.device_bytes < plain.device_bytes - weights


def test_parameters_are_updated_in_place() -> None:
    text = seen("adam", True, "h100").hlo_text
    assert f"f32[{WIDTH},{WIDTH}]{{1,0}} copy(" not in text


def test_no_optimizer_runs_on_the_host() -> None:
    assert seen("adam", True, "h100", strict=True).host_bytes == 2 * WEIGHTS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arrays", "share"),
    [
        ("clipped before", 2, 0.8),
        ("momentum", 1, 0.7),
        ("multi-step", 3, 0.8),
    ],
)
def test_other_states_are_gone_too(name: str, arrays: int, share: float) -> None:
    plain, swapped = seen(name, False, "h100"), seen(name, True, "h100")
    assert swapped.host_bytes == arrays * WEIGHTS
    saved = plain.device_bytes - swapped.device_bytes
    assert saved >= share * arrays * WEIGHTS


def test_init_under_jit_makes_one_leaf_at_a_time() -> None:
    tx = host_state(ADAM)
    evidence = jaxswap.inspect(
        # A program that reads no argument would be compiled for the device at hand.
        jax.jit(lambda params: (tx.init(params), params[0]["b"].sum())),
        layer_params(LAYERS, WIDTH),
        target="h100",
    )
    assert evidence.host_bytes == 2 * WEIGHTS
    assert evidence.device_bytes <= 4 * LEAF
