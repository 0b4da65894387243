"""Optimizers whose state lives in host memory: same numbers, less on the device."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import (
    AxisType,
    NamedSharding,
    PartitionSpec,
)
from optimizers import ADAM, KEY, OPTIMIZERS, PARAMS, SMALL

from jaxswap import host_state

pytestmark = pytest.mark.usefixtures("all_optimizations", "lenient_promotion")
INPUTS = jax.random.normal(KEY, (5, 32))


def loss(params: Any, x: jax.Array) -> jax.Array:
    hidden = jnp.tanh(x @ params["first"])
    out = hidden @ params["second"]["w"] + params["second"]["b"]
    return jnp.sum(out**2) * params["scale"]


def step(tx: Any, params: Any, state: Any, x: jax.Array = INPUTS) -> Any:
    updates, state = tx.update(jax.grad(loss)(params, x), state, params)
    return optax.apply_updates(params, updates), state


def fresh() -> Any:
    """Parameters that may be donated, on their device for good, as results are."""
    return jax.device_put(jax.tree.map(jnp.copy, PARAMS), jax.devices()[0])


def kinds(tree: Any) -> list[str]:
    return [leaf.sharding.memory_kind for leaf in jax.tree.leaves(tree)]


def assert_same(first: Any, second: Any) -> None:
    assert jax.tree.structure(first) == jax.tree.structure(second)
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    for a, b in pairs:
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def train(tx: Any, steps: int = 4) -> tuple[Any, Any, int]:
    """New parameters, new state, and how often the step was compiled."""
    jitted: Any = jax.jit(functools.partial(step, tx), donate_argnums=(0, 1))
    params = fresh()
    state = tx.init(params)
    before = kinds(state)
    for _ in range(steps):
        params, state = jitted(params, state)
    assert kinds(state) == before
    return params, state, jitted._cache_size()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_equal_bit_for_bit(name: str) -> None:
    plain, swapped = OPTIMIZERS[name], host_state(OPTIMIZERS[name], min_bytes=SMALL)
    (*expected, _), (*got, compilations) = train(plain), train(swapped)
    assert_same(got, expected)
    assert compilations == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_equal_bit_for_bit(name: str) -> None:
    plain, swapped = OPTIMIZERS[name], host_state(OPTIMIZERS[name], min_bytes=SMALL)
    states = [plain.init(PARAMS), swapped.init(PARAMS)]
    gradients = jax.grad(loss)(PARAMS, INPUTS)
    broken = jax.tree.map(lambda g: g * jnp.nan, gradients)
    for given in (gradients, broken, gradients) if name == "finite" else [gradients]:
        plain_updates, states[0] = jax.jit(plain.update)(given, states[0], PARAMS)
        updates, states[1] = jax.jit(swapped.update)(given, states[1], PARAMS)
        assert_same((updates, states[1]), (plain_updates, states[0]))


def test_without_jit_updates_are_equal_too() -> None:
    swapped = host_state(ADAM, min_bytes=SMALL)
    first = step(swapped, PARAMS, swapped.init(PARAMS))
    assert_same(
        step(swapped, *first), step(ADAM, *step(ADAM, PARAMS, ADAM.init(PARAMS)))
    )
    assert "pinned_host" in kinds(first[1])


def test_large_leaves_live_on_the_host_and_small_ones_on_the_device() -> None:
    state = host_state(ADAM, min_bytes="64B").init(PARAMS)
    assert kinds(state[0].mu) == ["pinned_host", "device", "device", "pinned_host"]
    assert kinds(state[0].count) == ["device"]
    assert set(kinds(host_state(ADAM).init(PARAMS))) == {"device"}
    everything = host_state(ADAM, min_bytes=0).init(PARAMS)
    places = ["pinned_host" if p.shape else "device" for p in jax.tree.leaves(PARAMS)]
    assert kinds(everything[0].mu) == places
    assert kinds(everything[0].count) == ["device"]


def test_scalars_stay_so_branches_of_accumulation_have_equal_types() -> None:
    def run(tx: Any) -> Any:
        every_two = optax.MultiSteps(tx, 2).gradient_transformation()
        return jax.jit(every_two.update)(PARAMS, every_two.init(PARAMS), PARAMS)

    assert_same(run(host_state(ADAM, min_bytes=0)), run(ADAM))


def test_random_keys_stay_on_the_device() -> None:
    noisy = optax.add_noise(0.1, 0.5, jax.random.key(3))
    swapped = host_state(optax.chain(noisy, ADAM), min_bytes=0)
    state = jax.jit(swapped.update)(PARAMS, swapped.init(PARAMS), PARAMS)[1]
    assert kinds(state[0].rng_key) == ["device"]


def test_init_under_jit_and_abstract() -> None:
    swapped = host_state(ADAM, min_bytes=SMALL)
    assert kinds(jax.jit(swapped.init)(PARAMS)) == kinds(swapped.init(PARAMS))
    abstract = jax.eval_shape(swapped.init, PARAMS)
    updates, new = jax.eval_shape(swapped.update, PARAMS, abstract, PARAMS)
    assert jax.tree.structure(new) == jax.tree.structure(abstract)
    assert updates["first"].shape == (32, 16)


def test_state_from_a_checkpoint_moves_to_the_host() -> None:
    swapped = host_state(ADAM, min_bytes=SMALL)
    got = jax.jit(functools.partial(step, swapped))(PARAMS, ADAM.init(PARAMS))
    assert_same(got, jax.jit(functools.partial(step, ADAM))(PARAMS, ADAM.init(PARAMS)))
    assert kinds(got[1]) == kinds(swapped.init(PARAMS))


def test_extra_arguments_arrive() -> None:
    class Scaled(NamedTuple):
        init: Callable[..., Any]
        update: Callable[..., Any]
        name: str = "scaled"

    def update(
        updates: Any, state: Any, params: Any = None, *, by: Any, kind: str
    ) -> Any:
        assert kind == "text is static"
        trace = jax.tree.map(lambda u, t: by * u + t, updates, state)
        return trace, trace

    tx = host_state(
        Scaled(lambda p: jax.tree.map(jnp.ones_like, p), update), min_bytes=0
    )
    assert isinstance(tx, Scaled)
    assert tx.name == "scaled"
    jitted = jax.jit(tx.update, static_argnames="kind")
    state = tx.init(PARAMS)
    updates, state = jitted(PARAMS, state, by=jnp.asarray(2.0), kind="text is static")
    np.testing.assert_array_equal(updates["first"], 2 * PARAMS["first"] + 1)
    assert kinds(state)[0] == "pinned_host"


def test_line_search_closes_over_traced_values() -> None:
    def search(tx: Any, params: Any, state: Any) -> Any:
        value_fn = functools.partial(loss, x=INPUTS)
        value, grad = jax.value_and_grad(value_fn)(params)
        updates, state = tx.update(
            grad, state, params, value=value, grad=grad, value_fn=value_fn
        )
        return optax.apply_updates(params, updates), state

    tx = optax.lbfgs()
    swapped = host_state(tx, min_bytes=SMALL)
    got = jax.jit(functools.partial(search, swapped))(PARAMS, swapped.init(PARAMS))
    assert_same(got, jax.jit(functools.partial(search, tx))(PARAMS, tx.init(PARAMS)))


@pytest.mark.parametrize(
    "tx", [None, (1, 2), lambda x: x, optax.MultiSteps(optax.adam(1e-2), 2)]
)
def test_what_is_no_transformation_is_named(tx: Any) -> None:
    with pytest.raises(TypeError, match=r"`tx` is .*gradient_transformation\(\)"):
        host_state(tx)


def test_min_bytes_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ValueError, match="min_bytes"):
        host_state(ADAM, min_bytes="much")


def test_scan_over_steps() -> None:
    def many(tx: Any, params: Any, state: Any) -> Any:
        body = lambda carry, _: (step(tx, *carry), None)  # noqa: E731
        return jax.lax.scan(body, (params, state), length=3)[0]

    swapped = host_state(ADAM, min_bytes=SMALL)
    got = jax.jit(functools.partial(many, swapped))(PARAMS, swapped.init(PARAMS))
    assert_same(got, jax.jit(functools.partial(many, ADAM))(PARAMS, ADAM.init(PARAMS)))
    assert kinds(got[1]) == kinds(swapped.init(PARAMS))
    with pytest.raises(TypeError, match="host"):
        many(swapped, PARAMS, ADAM.init(PARAMS))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_sharded_parameters_have_sharded_states(axis_type: AxisType) -> None:
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis_type,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    params = {"a": jax.device_put(PARAMS["first"], rows)}

    def one(tx: Any, params: Any, state: Any) -> Any:
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates), state

    results = []
    for tx in (ADAM, host_state(ADAM, min_bytes=SMALL)):
        state, current = tx.init(params), params
        for _ in range(2):
            current, state = jax.jit(functools.partial(one, tx))(current, state)
        results.append((current, state))
    assert_same(*results)
    moment = results[1][1][0].mu["a"]
    assert moment.sharding.memory_kind == "pinned_host"
    assert moment.sharding.shard_shape(moment.shape) == (16, 16)


def test_ensembles_are_mapped() -> None:
    swapped = host_state(ADAM, min_bytes=SMALL)
    both = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), PARAMS)
    mapped = jax.jit(jax.vmap(functools.partial(step, swapped)))
    params, state = mapped(both, jax.vmap(swapped.init)(both))
    assert "pinned_host" in kinds(state)
    alone = jax.jit(functools.partial(step, ADAM))(PARAMS, ADAM.init(PARAMS))
    for many, one in zip(
        jax.tree.leaves(params), jax.tree.leaves(alone[0]), strict=True
    ):
        np.testing.assert_allclose(many[0], one, rtol=1e-5, atol=1e-5)


def test_flax_train_state() -> None:
    results = []
    for tx in (ADAM, host_state(ADAM, min_bytes=SMALL)):
        state = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
        jitted = jax.jit(
            lambda s: s.apply_gradients(grads=jax.grad(loss)(s.params, INPUTS))
        )
        for _ in range(3):
            state = jitted(state)
        results.append((state.params, state.opt_state))
    assert_same(results[1], results[0])
    assert "pinned_host" in kinds(results[1][1])


def test_nnx_optimizer() -> None:
    @nnx.jit
    def one(model: nnx.Linear, optimizer: nnx.Optimizer) -> None:
        def error(model: nnx.Linear) -> jax.Array:
            return jnp.sum(model(jnp.ones((2, 16))) ** 2)

        optimizer.update(model, nnx.grad(error)(model))

    results = []
    for tx in (ADAM, host_state(ADAM, min_bytes=SMALL)):
        model = nnx.Linear(16, 16, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        for _ in range(3):
            one(model, optimizer)
        results.append((nnx.state(model), nnx.state(optimizer)))
    assert_same(results[1], results[0])
    assert "pinned_host" in kinds(results[1][1])
