"""Optimizers whose state lives in host memory: same numbers, less on the device."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import (
    AbstractMesh,
    AxisType,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
)

import jaxswap
from jaxswap import host_state

pytestmark = pytest.mark.usefixtures("all_optimizations")

SMALL = 64  # bytes: of PARAMS, all but the bias and the scale
KEY = jax.random.key(0)
PARAMS = {
    "first": jax.random.normal(KEY, (32, 16)),
    "second": {"w": jax.random.normal(KEY, (16, 8)), "b": jnp.zeros(8)},
    "scale": jnp.ones(()),
}
INPUTS = jax.random.normal(KEY, (5, 32))
MASK = {"first": True, "second": {"w": False, "b": True}, "scale": True}
LABELS = {"first": "adam", "second": "sgd", "scale": "adam"}

OPTIMIZERS: dict[str, Any] = {
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2),
    "amsgrad": optax.amsgrad(1e-2),
    "lamb": optax.lamb(1e-2),
    "adafactor": optax.adafactor(1e-2),
    "momentum": optax.sgd(1e-2, momentum=0.9, nesterov=True),
    "clipped before": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2)),
    "clipped after": optax.chain(optax.adam(1e-2), optax.clip_by_global_norm(0.01)),
    "averaged": optax.chain(optax.adam(1e-2), optax.ema(0.9)),
    "multi-step": optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation(),
    "masked": optax.masked(optax.adam(1e-2), MASK),
    "several": optax.multi_transform(
        {"adam": optax.adam(1e-2), "sgd": optax.sgd(1e-2, 0.9)}, LABELS
    ),
    "scheduled": optax.inject_hyperparams(optax.adamw)(
        learning_rate=optax.linear_schedule(1e-2, 1e-3, 10)
    ),
    "finite": optax.apply_if_finite(optax.adam(1e-2), 2),
}
ADAM = OPTIMIZERS["adam"]


@pytest.fixture(autouse=True)
def _lenient_promotion() -> Iterator[None]:
    """Optax mixes integers and floats, and arrays of several ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


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


# The order of the program


Struct = jax.ShapeDtypeStruct
HOST = jax.memory.Space.Host


def layer_params(count: int, width: int) -> list[dict[str, Any]]:
    layer = {
        "w": Struct((width, width), jnp.float32),
        "b": Struct((width,), jnp.float32),
    }
    return [layer] * count


def described(tx: Any, params: Any) -> Any:
    """The state of `tx` where it will be, without making it."""
    pinned = SingleDeviceSharding(jax.devices()[0], memory_kind="pinned_host")
    traced, shapes = jax.make_jaxpr(tx.init, return_shape=True)(params)
    leaves = [
        Struct(a.shape, a.dtype, sharding=pinned if a.memory_space == HOST else None)
        for a in traced.out_avals
    ]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def equations(tx: Any) -> list[Any]:
    """What an update of six layers traces to, large leaves on the host."""
    tx = host_state(tx, min_bytes=SMALL)
    layer = {"w": jnp.ones((8, 8)), "b": jnp.ones(8)}
    params = [layer] * 6
    return list(jax.make_jaxpr(tx.update)(params, tx.init(params), params).eqns)


def most_on_device(eqns: list[Any]) -> int:
    """How many arrays that came from the host are there at a time, at most."""
    now = most = 0
    for eqn in eqns:
        if eqn.primitive.name == "device_put":
            now += -1 if eqn.outvars[0].aval.memory_space == HOST else 1
            most = max(most, now)
    assert now == 0
    return most


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("adam", 1),
        ("amsgrad", 2),
        ("averaged", 1),
        ("clipped after", 1),
        ("clipped before", 1),
        ("momentum", 1),
        ("multi-step", 3),
    ],
)
def test_leaves_come_one_after_the_other(name: str, most: int) -> None:
    assert most_on_device(equations(OPTIMIZERS[name])) <= most


def test_arrival_waits_for_what_was_sent_before() -> None:
    """In data, not in order alone: XLA may change the order."""
    eqns = equations(ADAM)
    sent = [e.outvars[0] for e in eqns if e.primitive.name == "device_put"]
    sent = [v for v in sent if v.aval.memory_space == HOST]
    barriers = [e for e in eqns if e.primitive.name == "optimization_barrier"]
    awaited = [v for e in barriers for v in e.invars if v in sent]
    # All but the last two, each once, in order, and each result is one of a barrier.
    assert awaited == sent[: len(awaited)]
    assert len(awaited) >= len(sent) - 3
    assert all(len(e.invars) > 1 for e in barriers)


def test_first_arrival_waits_for_gradients() -> None:
    """Or it would be on the device during the whole backward pass."""
    eqns = equations(ADAM)
    first = next(e for e in eqns if e.primitive.name == "optimization_barrier")
    on_device = [v.aval.shape for v in first.invars if v.aval.memory_space != HOST]
    # Its own gradient and that of the next, which is made from the old parameters.
    assert on_device == [(8, 8)] * 2


def test_unchanged_leaves_do_not_travel() -> None:
    def init(params: Any) -> Any:
        return jax.tree.map(jnp.ones_like, params)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        return updates, state

    frozen = optax.GradientTransformation(init, update)
    assert not equations(frozen)


def test_known_conditions_choose_when_traced() -> None:
    names = [e.primitive.name for e in equations(OPTIMIZERS["multi-step"])]
    assert "cond" not in names


def test_other_conditions_are_left_alone() -> None:
    names = [e.primitive.name for e in equations(OPTIMIZERS["finite"])]
    assert names.count("cond") == 1


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
