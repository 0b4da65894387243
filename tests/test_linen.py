"""`jaxswap.linen.offload` takes the place of `nn.remat` and changes no number."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from linen_blocks import (
    KEYS,
    POLICIES,
    Block,
    Coder,
    Net,
    X,
    alternate,
    assert_same_module,
    mixed,
    plain,
    rematted,
    variables_of,
    with_gradient,
)
from trees import assert_same

import jaxswap
import jaxswap.linen
from jaxswap import RECOMPUTE


@pytest.mark.parametrize("policy", POLICIES)
def test_value_gradient_and_state_are_the_modules(policy: str) -> None:
    offloaded = jaxswap.linen.offload(Block, policy=POLICIES[policy])
    variables, expected = plain()
    assert_same(jax.jit(with_gradient(Net(offloaded), X))(variables), expected)


def test_they_are_those_of_remat_too() -> None:
    variables, expected = plain()
    assert_same(jax.jit(with_gradient(Net(rematted(Block)), X))(variables), expected)


def test_first_variables_are_the_same() -> None:
    found = jax.jit(Net(mixed(Block)).init)(KEYS, X)
    assert_same(found, jax.jit(Net().init)(KEYS, X))


def test_mutated_state_and_dropout_are_at_work() -> None:
    variables, ((_, changed), _) = plain()
    before, after = variables["batch_stats"], changed["batch_stats"]
    moved = jax.tree.map(lambda b, a: bool(jnp.any(a != b)), before, after)
    assert all(jax.tree.leaves(moved))
    assert all(float(mean) != 0 for mean in jax.tree.leaves(changed["intermediates"]))


def test_evaluation_reads_the_statistics() -> None:
    variables, _ = plain()
    nets = Net(mixed(Block)), Net()
    found, expected = [
        jax.jit(with_gradient(n, X, train=False))(variables) for n in nets
    ]
    assert_same(found, expected)


def test_parameters_have_the_names_of_the_plain_module() -> None:
    class Unnamed(nn.Module):
        block: Callable[..., Any] = Block

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return self.block()(self.block()(x))

    variables = variables_of(Unnamed(mixed(Block)), X)
    assert set(variables["params"]) == {"Block_0", "Block_1"}
    assert_same_module(Unnamed(mixed(Block)), Unnamed(), X)


def test_decorates_classes_and_methods_bare_and_with_options() -> None:
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return jnp.tanh(nn.Dense(6)(x))

    @jaxswap.linen.offload
    class Whole(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return jnp.tanh(nn.Dense(6)(x))

    class Bare(nn.Module):
        @jaxswap.linen.offload
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return jnp.tanh(nn.Dense(6)(x))

    class Configured(nn.Module):
        @jaxswap.linen.offload(policy=alternate)
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return jnp.tanh(nn.Dense(6)(x))

    for module in (Whole, Bare, Configured):
        assert_same_module(module(), Plain(), X)


def test_partial_class() -> None:
    wide = functools.partial(Block, width=6)
    assert_same_module(mixed(wide)(), wide(), X)


@pytest.mark.parametrize("methods", [["encode"], ("encode", "decode"), None])
def test_methods(methods: Any) -> None:
    assert_same_module(mixed(Coder, methods=methods)(), Coder(), X)


def test_function_of_a_module() -> None:
    def twice(module: nn.Module, x: jax.Array, *, scale: float) -> jax.Array:
        dense = nn.Dense(6, parent=module)
        return scale * jnp.tanh(dense(jnp.tanh(dense(x))))

    class Model(nn.Module):
        wrap: Callable[..., Any] = lambda f: f

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return self.wrap(twice)(self, x, scale=2.0)

    assert_same_module(Model(mixed), Model(), X)


class Tied(nn.Module):
    """A layer that the caller shares with a block."""

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(self.layer(jnp.sin(self.layer(x))))


def test_shared_submodule() -> None:
    class Model(nn.Module):
        tied: Callable[..., Any] = Tied

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            layer = nn.Dense(6)
            block = self.tied(layer)
            return layer(block(block(layer(x))))

    assert_same_module(Model(mixed(Tied)), Model(), X)


def test_module_as_argument() -> None:
    class Caller(nn.Module):
        @nn.compact
        def __call__(self, layer: nn.Module, x: jax.Array) -> jax.Array:
            return jnp.tanh(layer(nn.Dense(6)(x)))

    class Model(nn.Module):
        caller: Callable[..., Any] = Caller

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            layer = nn.Dense(6)
            return self.caller(name="caller")(layer, layer(x))

    assert_same_module(Model(mixed(Caller)), Model(), X)


def test_blocks_in_blocks_and_a_loss_around_them() -> None:
    net = mixed(Net)(mixed(Block))
    variables, expected = plain()
    assert_same(jax.jit(with_gradient(net, X))(variables), expected)

    def loss(variables: Any, net: nn.Module) -> jax.Array:
        return jnp.sum(jnp.asarray(net.apply(variables, X, False)) ** 2)

    around = jax.jit(
        jax.grad(jaxswap.offload(loss, policy=RECOMPUTE)), static_argnums=1
    )
    within = jax.jit(jax.grad(loss), static_argnums=1)
    variables, _ = plain()
    assert_same(around(variables, net), within(variables, Net()))


class Step(Block):
    """A block as `nn.scan` wants it."""

    def __call__(self, x: jax.Array, train: Any = None) -> Any:
        return super().__call__(x, True), None


class Layers(nn.Module):
    """Three steps whose variables are stacked."""

    step: Callable[..., Any] = Step

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scan = nn.scan(
            self.step,
            variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            length=3,
        )
        return scan(name="steps")(x, None)[0]


def test_scan_over_blocks() -> None:
    assert_same_module(Layers(mixed(Step)), Layers(), X)


def test_block_with_a_scan_inside() -> None:
    assert_same_module(mixed(Layers)(), Layers(), X)


def test_vmap_of_a_block_and_of_a_gradient() -> None:
    over = functools.partial(
        nn.vmap,
        variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
    )
    many = jnp.stack([X, 2 * X])
    assert_same_module(over(mixed(Block))(), over(Block)(), many)

    def per_example(net: nn.Module) -> Any:
        return jax.jit(jax.vmap(lambda x: with_gradient(net, x)(plain()[0])))(many)

    assert_same(per_example(Net(mixed(Block))), per_example(Net()))


class SquaredError(nn.Module):
    """A module that is a loss of its own."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.mean((nn.Dense(6)(jnp.tanh(nn.Dense(6)(x))) - x) ** 2)


def test_without_jit() -> None:
    variables = variables_of(SquaredError(), X)
    expected = with_gradient(SquaredError(), X)(variables)
    assert_same(with_gradient(mixed(SquaredError)(), X)(variables), expected)


def test_budget_and_plan_reach_the_module() -> None:
    variables = variables_of(SquaredError(), X)

    def loss(variables: Any, x: jax.Array) -> jax.Array:
        return jnp.asarray(SquaredError().apply(variables, x))

    def gradient(**options: Any) -> Any:
        module = jaxswap.linen.offload(SquaredError, **options)()
        return jax.jit(jax.grad(lambda v: jnp.asarray(module.apply(v, X))))(variables)

    expected = jax.jit(jax.grad(loss))(variables, X)
    with pytest.raises(jaxswap.BudgetError):
        gradient(budget=8, target="h100")
    assert_same(gradient(budget="1GiB", target="h100"), expected)
    plan = jaxswap.plan(loss, variables, X, budget="1GiB", target="h100")
    assert_same(gradient(plan=plan), expected)


class DeepMLP(nn.Module):
    """Sixteen wide layers, eight to a module."""

    block: Callable[..., Any]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.sum(self.block()(self.block()(x)) ** 2)


class Products(nn.Module):
    """So many that copies have work beside them."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(8):
            x = jnp.tanh(nn.Dense(x.shape[-1])(x))
        return x


def test_the_program_for_a_gpu_swaps() -> None:
    x = jax.ShapeDtypeStruct((8192, 1024), jnp.float32)

    def seen(block: Any) -> jaxswap.Evidence:
        net = DeepMLP(block)
        weights = jax.eval_shape(net.init, jax.random.key(0), x)
        gradient = jax.value_and_grad(lambda w, x: jnp.asarray(net.apply(w, x)))
        options = jaxswap.compiler_options()
        return jaxswap.inspect(
            gradient, weights, x, target="h100", compiler_options=options
        )

    plain, offloaded = seen(Products), seen(jaxswap.linen.offload(Products))
    assert plain.host_bytes == 0
    assert offloaded.host_bytes >= 10 * 8192 * 1024 * 4
    assert offloaded.temp_bytes <= 0.5 * plain.temp_bytes
    assert offloaded.hidden_fraction == 1.0
