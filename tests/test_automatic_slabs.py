"""Networks of users are planned by slabs without a word about axes."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxswap

Array = jax.Array


class Bottleneck(nn.Module):
    """The residual block of a ResNet-50."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply the block; (batch, height, width, channel) in and out."""

        def convolved(x: Array, features: int, size: int, stride: int = 1) -> Array:
            x = nn.Conv(features, (size, size), (stride, stride), use_bias=False)(x)
            return nn.BatchNorm(use_running_average=False)(x)

        y = nn.relu(convolved(x, self.features, 1))
        y = nn.relu(convolved(y, self.features, 3, self.stride))
        y = convolved(y, 4 * self.features, 1)
        if x.shape != y.shape:
            x = convolved(x, 4 * self.features, 1, self.stride)
        return nn.relu(x + y)


class Classifier(nn.Module):
    """A ResNet-50 with one block in each of two stages."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return logits, (batch, class)."""
        x = nn.Conv(8, (7, 7), (2, 2), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        x = Bottleneck(4, 2)(Bottleneck(4)(x))
        return nn.Dense(5)(x.mean((1, 2)))


class Segmenter(nn.Module):
    """A small U-Net in 3-D."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return logits, (batch, x, y, z, class)."""
        x = nn.relu(nn.GroupNorm(2)(nn.Conv(4, (3, 3, 3))(x)))
        y = nn.max_pool(x, (2, 2, 2), (2, 2, 2))
        y = nn.relu(nn.GroupNorm(2)(nn.Conv(8, (3, 3, 3))(y)))
        y = nn.ConvTranspose(4, (2, 2, 2), (2, 2, 2))(y)
        return nn.Conv(3, (1, 1, 1))(jnp.concatenate([x, y], axis=-1))


def problem(network: nn.Module, *shapes: tuple[int, ...]) -> Any:
    """Return the mean cross entropy of a network, and its arguments."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], shapes[0])
    labels = jax.random.randint(keys[1], shapes[1], 0, 3)
    variables = jax.jit(network.init)(keys[2], x)

    def loss(parameters: Any, rest: Any, x: Array, labels: Array) -> Array:
        logits: Any
        logits, _ = network.apply(
            {"params": parameters, **rest}, x, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    rest = {name: x for name, x in variables.items() if name != "params"}
    return loss, (variables["params"], rest, x, labels)


PROBLEMS = {
    "classifier": lambda: problem(Classifier(), (2, 128, 32, 3), (2,)),
    "segmenter": lambda: problem(Segmenter(), (1, 32, 8, 8, 2), (1, 32, 8, 8)),
}


@pytest.mark.usefixtures("own_folders")
@pytest.mark.parametrize("name", PROBLEMS)
def test_what_fits_by_slabs_alone_has_the_same_gradient(name: str) -> None:
    loss, args = PROBLEMS[name]()
    options: dict[str, Any] = dict(
        target="h100", compile=False, progress=False, search_seconds=0.3
    )
    with pytest.raises(jaxswap.BudgetError) as refused:
        jaxswap.plan(loss, *args, budget="1KiB", slabs=None, **options)
    budget = int(0.97 * refused.value.smallest_bytes)
    plan = jaxswap.plan(loss, *args, budget=budget, **options)
    assert plan.slabs is not None
    assert plan.graph.slab_facts is not None
    assert plan.graph.slab_facts.whole == ()
    assert plan.device_bytes <= budget
    step = jax.jit(jax.value_and_grad(jaxswap.offload(loss, plan=plan)))
    found = jax.tree.leaves(step(*args))
    wanted = jax.tree.leaves(jax.jit(jax.value_and_grad(loss))(*args))
    largest = max(float(np.abs(x).max()) for x in wanted)
    for a, e in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, e, atol=2e-5 * largest, rtol=1e-4)


def test_training_by_slabs_is_training_on_the_whole() -> None:
    loss, (start, *rest) = PROBLEMS["segmenter"]()
    optimizer = optax.sgd(0.05, momentum=0.9)

    def trained(fn: Any) -> list[Array]:
        @jax.jit
        def step(parameters: Any, state: Any) -> Any:
            gradient = jax.grad(fn)(parameters, *rest)
            updates, state = optimizer.update(gradient, state, parameters)
            return optax.apply_updates(parameters, updates), state

        parameters, state = start, optimizer.init(start)
        for _ in range(8):
            parameters, state = step(parameters, state)
        return jax.tree.leaves(parameters)

    whole = trained(loss)
    by_slabs = trained(jaxswap.offload(loss, slabs="1x4"))
    moved = max(
        float(jnp.abs(a - b).max())
        for a, b in zip(whole, jax.tree.leaves(start), strict=True)
    )
    assert moved > 0.01
    for a, b in zip(whole, by_slabs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * moved)
