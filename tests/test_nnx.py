"""`jaxswap.nnx.offload` takes the place of `nnx.remat` and changes no number."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from trees import assert_same, distance

import jaxswap
import jaxswap.nnx
from jaxswap import KEEP, OFFLOAD, RECOMPUTE

X = jnp.sin(jnp.arange(24.0)).reshape(4, 6)


def alternate(value: jaxswap.Value) -> jaxswap.Action:
    return (OFFLOAD, RECOMPUTE, KEEP)[value.index % 3]


POLICIES: dict[str, Any] = {
    "default": None,
    "offload": OFFLOAD,
    "recompute": RECOMPUTE,
    "alternate": alternate,
}
# Most tests ask for this mix: every action occurs.
mixed = functools.partial(jaxswap.nnx.offload, policy=alternate)


def unchanged(f: Any) -> Any:
    return f


class Block(nnx.Module):
    """Has all that a module can have: weights, averages, random numbers, a counter."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(6, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.second = nnx.Linear(6, 6, rngs=rngs)
        self.calls = nnx.BatchStat(jnp.array(0))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.dropout(jnp.tanh(self.norm(self.first(x))))
        self.calls[...] += 1
        return x + self.second(y)


class Small(nnx.Module):
    """Weights and averages, no integers: tree mode differentiates everything."""

    def __init__(self) -> None:
        self.dense = nnx.Linear(6, 6, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(6, rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(self.norm(self.dense(x)))


class Net(nnx.Module):
    """Two blocks, each called by `call`, and random numbers behind them."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0, dropout=1)
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.call = unchanged

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = self.call(Block.__call__)(block, x)
        return self.dropout(x)


@functools.cache
def first_block() -> Block:
    return Block(nnx.Rngs(0))


@functools.cache
def first_net() -> Net:
    return Net()


def new_block() -> Block:
    """Always the same; a copy takes less time than another first one."""
    return nnx.clone(first_block())


def new_net(call: Callable[..., Any] = unchanged) -> Net:
    """Always the same, but for how it calls its blocks."""
    net = nnx.clone(first_net())
    net.call = call
    return net


def loss(model: Any, x: jax.Array) -> jax.Array:
    return jnp.sum(model(x) ** 2)


def state_of(model: nnx.Module) -> Any:
    """All variables by their place, whatever the module's static attributes."""
    return nnx.to_pure_dict(nnx.state(model))


def trained(
    model: Any, loss: Callable[..., Any] = loss, jit: Callable[..., Any] = nnx.jit
) -> Any:
    """Value, gradient and state of two steps: the second goes on with the first's."""
    step = jit(nnx.value_and_grad(loss))
    steps = [step(model, X) for _ in range(2)]
    return [jax.tree.leaves(each) for each in steps], state_of(model)


@functools.cache
def plain() -> Any:
    return trained(new_net())


@pytest.mark.parametrize("policy", POLICIES)
def test_whole_loss(policy: str) -> None:
    wrapped = jaxswap.nnx.offload(loss, policy=POLICIES[policy])
    assert_same(trained(new_net(), wrapped), plain())


@pytest.mark.parametrize("policy", ["offload", "recompute"])
def test_blocks(policy: str) -> None:
    call = functools.partial(jaxswap.nnx.offload, policy=POLICIES[policy])
    assert_same(trained(new_net(call)), plain())


def test_remat_gives_the_same() -> None:
    assert_same(trained(new_net(nnx.remat)), plain())


def test_without_jit() -> None:
    found, expected = (trained(Small(), f, unchanged) for f in (mixed(loss), loss))
    assert_same(found, expected)


def test_blocks_in_a_loss() -> None:
    assert_same(trained(new_net(mixed), mixed(loss)), plain())


def test_two_steps_move_every_counter_and_average() -> None:
    before, (_, after) = state_of(new_net()), trained(new_net(), mixed(loss))
    for block in after["blocks"].values():
        assert block["calls"] == 2
    before, after = before["blocks"][0], after["blocks"][0]
    assert jnp.all(before["norm"]["mean"] != after["norm"]["mean"])
    assert after["dropout"]["rngs"]["count"] == 2


def test_without_differentiation() -> None:
    model, other = new_net(), new_net()
    assert_same(nnx.jit(mixed(loss))(model, X), nnx.jit(loss)(other, X))
    assert_same(state_of(model), state_of(other))


def test_tree_mode() -> None:
    for mode in (nnx.set_graph_mode, nnx.set_graph_updates):
        with mode(False):
            found, expected = (trained(Small(), f) for f in (mixed(loss), loss))
            assert_same(found, expected)


def test_decorates_methods_bare_and_with_options() -> None:
    class Bare(Block):
        @jaxswap.nnx.offload
        def __call__(self, x: jax.Array) -> jax.Array:
            return Block.__call__(self, x)

    class Configured(Block):
        @jaxswap.nnx.offload(policy=alternate)
        def __call__(self, x: jax.Array) -> jax.Array:
            return Block.__call__(self, x)

    expected = trained(new_block())
    for module in (Bare, Configured):
        assert_same(trained(module(nnx.Rngs(0))), expected)


def test_methods_of_an_instance_and_the_instance_itself() -> None:
    def by_method(model: Block, x: jax.Array) -> jax.Array:
        return loss(mixed(model.__call__), x)

    def by_instance(model: Block, x: jax.Array) -> jax.Array:
        return loss(mixed(model), x)

    expected = trained(new_block())
    assert_same(trained(new_block(), by_method), expected)
    assert_same(trained(new_block(), by_instance), expected)


def test_wrapper_looks_like_the_function_it_wraps() -> None:
    wrapped = jaxswap.nnx.offload(loss)
    assert wrapped.__name__ == "loss"
    assert inspect.signature(wrapped) == inspect.signature(loss)


def test_arguments_and_results_of_every_kind() -> None:
    def busy(
        models: dict[str, Any], x: jax.Array, kind: str, *, key: jax.Array, power: int
    ) -> Any:
        assert isinstance(power, int)
        noise = jax.random.normal(key, x.shape)
        out = models["a"](x) + models["b"](noise if kind == "noise" else x)
        return jnp.sum(out**power), {"count": models["a"].calls[...], "nothing": None}

    def run(f: Callable[..., Any]) -> Any:
        models = {"a": new_block(), "b": Block(nnx.Rngs(1))}

        @nnx.jit
        def step(models: Any) -> Any:
            pull = nnx.value_and_grad(
                lambda models: f(models, X, "noise", key=jax.random.key(3), power=2),
                has_aux=True,
            )
            return pull(models)

        return jax.tree.leaves(step(models)), state_of(models["a"])

    assert_same(run(mixed(busy)), run(busy))


def test_shared_variables() -> None:
    class Tied(nnx.Module):
        def __init__(self) -> None:
            self.first = nnx.Linear(6, 6, rngs=nnx.Rngs(0))
            self.second = self.first

        def __call__(self, x: jax.Array) -> jax.Array:
            return jnp.tanh(self.second(jnp.tanh(self.first(x))))

    def twice(model: Tied, same: Tied, x: jax.Array) -> jax.Array:
        assert model is same
        return loss(model, x) + loss(same, 2 * x)

    def run(f: Callable[..., Any]) -> Any:
        value, gradient = nnx.value_and_grad(lambda model: f(model, model, X))(Tied())
        return value, nnx.to_pure_dict(gradient)

    assert_same(run(mixed(twice)), run(twice))


def test_new_and_returned_variables() -> None:
    def grow(model: Block, x: jax.Array) -> Any:
        setattr(model, "note", nnx.Intermediate(model(x)))  # noqa: B010
        return model, nnx.BatchStat(jnp.sum(x))

    model, other = new_block(), new_block()
    same, made = mixed(grow)(model, X)
    _, expected = grow(other, X)
    assert same is model
    assert_same(made[...], expected[...])
    assert_same(state_of(model), state_of(other))


def test_gradients_of_a_part_and_of_several_arguments() -> None:
    def pair(first: Block, second: Block, x: jax.Array) -> jax.Array:
        return loss(first, x) + loss(second, x)

    def run(f: Callable[..., Any]) -> Any:
        only = nnx.DiffState(1, nnx.PathContains("second"))
        gradient = nnx.jit(nnx.grad(f, argnums=(0, only, 2)))
        given = new_block(), Block(nnx.Rngs(1))
        first, second, x = gradient(*given, X)
        return nnx.to_pure_dict(first), nnx.to_pure_dict(second), x

    assert_same(run(mixed(pair)), run(pair))


@pytest.mark.parametrize("around", ["scan", "vmap"])
def test_scan_and_vmap_around(around: str) -> None:
    def stacked() -> Any:
        make = nnx.vmap(lambda rngs: Block(rngs))
        return make(nnx.Rngs(0, dropout=1).split(3))

    def total(call: Callable[..., Any], model: Any, x: jax.Array) -> jax.Array:
        if around == "scan":
            axes: Any = {"in_axes": (0, nnx.Carry), "out_axes": nnx.Carry}
            out = nnx.scan(call(Block.__call__), **axes)(model, x)
        else:
            out = nnx.vmap(call(Block.__call__), in_axes=(0, None))(model, x)
        return jnp.sum(out**2)

    expected = trained(stacked(), functools.partial(total, unchanged))
    assert_same(trained(stacked(), functools.partial(total, mixed)), expected)


def test_vmap_of_a_gradient() -> None:
    def per_example(loss: Callable[..., Any]) -> Any:
        model = nnx.Linear(6, 6, rngs=nnx.Rngs(0))
        many = jnp.stack([X, 2 * X])
        gradient = nnx.vmap(nnx.grad(loss), in_axes=(None, 0))(model, many)
        return nnx.to_pure_dict(gradient)

    assert_same(per_example(mixed(loss)), per_example(loss))


def test_static_arguments_as_for_remat() -> None:
    def sized(model: nnx.Linear, x: jax.Array, rows: int) -> jax.Array:
        return loss(model, x[:rows])

    def run(f: Callable[..., Any]) -> Any:
        model = nnx.Linear(6, 6, rngs=nnx.Rngs(0))
        return nnx.to_pure_dict(nnx.grad(lambda model: f(model, X, 3))(model))

    expected = run(nnx.remat(sized, static_argnums=(2,)))
    assert_same(run(mixed(sized)), expected)
    assert_same(run(mixed(sized, static_argnums=2)), expected)
    for i in (0, 1):
        with pytest.raises(TypeError, match=f"argument {i} is in `static_argnums`"):
            run(mixed(sized, static_argnums=i))


@pytest.mark.parametrize(
    ("f", "options", "message"),
    [
        (3, {}, "needs a function"),
        (loss, {"static_argnums": -1}, "none negative"),
        (loss, {"static_argnums": "model"}, "must be a number or several"),
        (loss, {"policy": "offload"}, r"it must be None, a jaxswap\.Action"),
        (loss, {"plan": "plan.json"}, "it must be a plan"),
        (loss, {"graph": True}, "`graph`: it has no use here, because"),
    ],
)
def test_wrong_arguments_are_named(f: Any, options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        jaxswap.nnx.offload(f, **options)


def test_arguments_that_exclude_one_another() -> None:
    with pytest.raises(ValueError, match="they exclude one another"):
        jaxswap.nnx.offload(policy=OFFLOAD, budget="1GiB")


def test_values_that_leave_are_rounded_if_asked_for() -> None:
    narrow = jaxswap.nnx.offload(loss, policy=OFFLOAD, compress="int8")
    found, expected = (nnx.jit(nnx.grad(f))(new_block(), X) for f in (narrow, loss))
    assert 1e-5 < distance(found, expected) < 0.2
    with pytest.raises(ValueError, match=r"`compress` is 'int4'; it must be one of"):
        jaxswap.nnx.offload(loss, compress="int4")


def test_writing_to_a_module_that_is_closed_over_is_refused() -> None:
    model = new_block()
    with pytest.raises(flax.errors.TraceContextError):
        mixed(lambda x: model(x))(X)


def test_an_error_inside_leaves_nothing_behind() -> None:
    def wrong(model: Block, x: jax.Array) -> jax.Array:
        raise KeyError("x")

    with contextlib.suppress(KeyError):
        mixed(wrong)(new_block(), X)
    assert_same(trained(new_net(), mixed(loss)), plain())


def test_budget_reaches_the_loss() -> None:
    loss_ = jaxswap.nnx.offload(loss, budget=8, target="h100")
    with pytest.raises(jaxswap.BudgetError):
        nnx.grad(loss_)(nnx.Linear(6, 6, rngs=nnx.Rngs(0)), X)
