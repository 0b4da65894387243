"""`jaxswap.linen.offload` takes the place of `nn.remat` and changes no number."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from trees import assert_same, made_up

import jaxswap
import jaxswap.linen
from jaxswap import KEEP, OFFLOAD, RECOMPUTE

X = jnp.sin(jnp.arange(24.0)).reshape(4, 6)
KEYS = {"params": jax.random.key(1), "dropout": jax.random.key(2)}


def alternate(value: jaxswap.Value) -> jaxswap.Action:
    return (OFFLOAD, RECOMPUTE, KEEP)[value.index % 3]


POLICIES: dict[str, Any] = {
    "default": None,
    "offload": OFFLOAD,
    "recompute": RECOMPUTE,
    "alternate": alternate,
}
# Most tests ask for this mix: every action occurs.
mixed = functools.partial(jaxswap.linen.offload, policy=alternate)
rematted = functools.partial(nn.remat, static_argnums=(2,))


class Block(nn.Module):
    """Has all that a module can have: weights, statistics, random numbers, notes."""

    width: int = 6

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        y = nn.BatchNorm(use_running_average=not train)(nn.Dense(self.width)(x))
        y = nn.Dropout(0.3, deterministic=not train)(jnp.tanh(y))
        self.sow("intermediates", "mean", jnp.mean(y))
        return x + nn.Dense(self.width)(y)


class Net(nn.Module):
    """Two blocks and, behind them, random numbers that must not depend on how."""

    block: Callable[..., Any] = Block

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        x = self.block(6, name="first")(x, train)
        x = self.block(6, name="second")(x, train)
        return nn.Dropout(0.3, deterministic=not train)(x)


def with_gradient(net: nn.Module, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """Value, gradient and mutated collections of `net`, a function of its variables."""

    def loss(params: Any, rest: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, **rest}
        names = ["batch_stats", "intermediates"]
        out, changed = net.apply(variables, *args, rngs=KEYS, mutable=names, **kwargs)
        return jnp.sum(jnp.asarray(out) ** 2), changed

    def run(variables: Any) -> Any:
        rest = {k: v for k, v in variables.items() if k != "params"}
        return jax.value_and_grad(loss, has_aux=True)(variables["params"], rest)

    return run


def variables_of(net: nn.Module, *args: Any) -> Any:
    """Made-up numbers in the place of its variables; quicker than its own."""
    return made_up(jax.eval_shape(net.init, KEYS, *args))


def assert_same_module(actual: nn.Module, expected: nn.Module, *args: Any) -> None:
    """Same variables, random numbers, value, gradient and mutated collections."""
    variables = variables_of(expected, *args)
    assert jax.eval_shape(actual.init, KEYS, *args) == jax.eval_shape(
        expected.init, KEYS, *args
    )
    found = jax.jit(with_gradient(actual, *args))(variables)
    assert_same(found, jax.jit(with_gradient(expected, *args))(variables))


@functools.cache
def plain() -> Any:
    """Variables of two plain blocks, and their value, gradient and mutated state."""
    variables = variables_of(Net(), X)
    return variables, jax.jit(with_gradient(Net(), X))(variables)


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


class Coder(nn.Module):
    """Two methods that share a layer made in `setup`."""

    def setup(self) -> None:
        self.shared = nn.Dense(6)

    def encode(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(self.shared(x))

    def decode(self, x: jax.Array) -> jax.Array:
        return jnp.sin(self.shared(x))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.decode(self.encode(x)) * self.encode(x)


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


def test_filters_are_those_of_remat() -> None:
    class Random(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            names = [self.has_rng(name) for name in ("dropout", "noise")]
            stats = self.has_variable("batch_stats", "mean")
            return nn.Dense(6)(x) + jnp.array([[*names, stats, 0, 0, 0]], jnp.float32)

    keys = {**KEYS, "noise": jax.random.key(3)}
    options: Any = {"variables": "params", "rngs": ["params", "noise"]}
    variables = Random().init(keys, X)
    given = {**variables, "batch_stats": {"mean": X}}
    found = mixed(Random, **options)().apply(given, X, rngs=keys)
    assert_same(found, nn.remat(Random, **options)().apply(given, X, rngs=keys))


def test_static_arguments_as_for_remat_and_without_listing_them() -> None:
    listed = jaxswap.linen.offload(Block, policy=alternate, static_argnums=(2,))
    variables, expected = plain()
    assert_same(jax.jit(with_gradient(Net(listed), X))(variables), expected)

    class ByName(nn.Module):
        block: Callable[..., Any] = Block

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return self.block(name="block")(x=x, train=True)

    assert_same_module(ByName(mixed(Block)), ByName(), X)


def test_static_argument_with_an_array_is_refused() -> None:
    wrong = jaxswap.linen.offload(Block, static_argnums=1)
    with pytest.raises(TypeError, match="argument 1 is in `static_argnums`"):
        wrong().init(KEYS, X)


@pytest.mark.parametrize(
    ("wrong", "options", "message"),
    [
        (Block(), {}, "wrap the class, then make the instance"),
        ("Block", {}, "no module class"),
        (Block, {"static_argnums": 0}, "`self`, the module, is argument 0"),
        (Block, {"static_argnums": "x"}, "must be a positive number or several"),
        (Block, {"methods": "__call__"}, "must be a list of names"),
        (Block, {"methods": {"__call__": {}}}, "wrap the class once for each"),
        (Block, {"policy": "offload"}, "it must be None, a jaxswap.Action"),
        (Block, {"prevent_cse": False}, "`prevent_cse`: it has no use here, because"),
        (lambda block: None, {"methods": ["f"]}, "is a function and has none"),
    ],
)
def test_wrong_arguments_are_named(wrong: Any, options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        jaxswap.linen.offload(wrong, **options)


def test_arguments_that_exclude_one_another() -> None:
    with pytest.raises(ValueError, match="they exclude one another"):
        jaxswap.linen.offload(policy=OFFLOAD, budget="1GiB")


def test_method_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="encod"):
        jaxswap.linen.offload(Coder, methods=["encod"])


def test_function_without_a_module_is_sent_to_offload() -> None:
    loss = jaxswap.linen.offload(lambda params, x: jnp.sum(params * x))
    with pytest.raises(TypeError, match=r"use jaxswap\.offload"):
        loss(X, X)


def test_policy_of_jax_checkpoint_is_refused() -> None:
    policy = jax.checkpoint_policies.everything_saveable
    block = jaxswap.linen.offload(Block, policy=policy)()
    variables = variables_of(Block(), X)
    with pytest.raises(TypeError, match="it must return jaxswap"):
        with_gradient(block, X)(variables)


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
