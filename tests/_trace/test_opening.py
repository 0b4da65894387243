"""Checkpoints and branches that are planned, with the gradients of plain JAX."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params
from zoo import normal

from jaxswap import Action
from jaxswap._graph.graph import Inside, alike
from jaxswap._run.loss import loss_source
from jaxswap._run.machine import Machine
from jaxswap._run.source import Source
from jaxswap._run.step import step_of
from jaxswap._schedule.issue import schedule
from jaxswap._schedule.policy import as_policy
from jaxswap._search.ways import keep_all
from jaxswap._trace.opening import insides_of

Loss = Callable[[jax.Array, jax.Array], jax.Array]
W, X = 0.3 * normal(4, 8, 8), normal(3, 8)


def layer(x: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.sin(jnp.tanh(x @ w) @ w)


def checkpointed(w: jax.Array, x: jax.Array) -> jax.Array:
    for i in range(2):
        x = jax.checkpoint(layer)(x, w[i])
    return jnp.sum(x**2)


def checkpoint_in_jit(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jax.jit(jax.checkpoint(layer))(x, w[0]))


def nested(w: jax.Array, x: jax.Array) -> jax.Array:
    both = jax.checkpoint(lambda x: jax.checkpoint(layer)(layer(x, w[0]), w[1]))
    return jnp.sum(both(x))


def checkpointed_body(w: jax.Array, x: jax.Array) -> jax.Array:
    body = jax.checkpoint(lambda x, w: (layer(x, w), None))
    return jnp.sum(lax.scan(body, x, w)[0])


def branching(w: jax.Array, x: jax.Array) -> jax.Array:
    for i in range(2):
        x = lax.cond(jnp.sum(x) > 0, layer, lambda x, w: jnp.exp(-x @ w), x, w[i])
    return jnp.sum(x**2)


def switching(w: jax.Array, x: jax.Array) -> jax.Array:
    branches = [layer, lambda x, w: x * 2, jax.checkpoint(layer)]
    chosen = jnp.where(x[0, 0] > 0, 2, 0)
    return jnp.sum(lax.switch(chosen, branches, x, w[0]))


def branching_body(w: jax.Array, x: jax.Array) -> jax.Array:
    def body(x: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
        x = jax.checkpoint(layer)(x, w)
        return lax.cond(jnp.sum(x) > 0, layer, lambda x, w: jnp.cos(x @ w), x, w), None

    return jnp.sum(lax.scan(body, x, w)[0])


def without_calls(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(layer(x, w[0]))


LOSSES: dict[str, Loss] = {
    loss.__name__: loss
    for loss in (
        checkpointed,
        checkpoint_in_jit,
        nested,
        checkpointed_body,
        branching,
        switching,
        branching_body,
    )
}
CALLS = {"remat2", "checkpoint"}
"""Names of the primitive of `jax.checkpoint` in versions of JAX."""
BRANCHES = (Inside.OPEN_STORING_PRODUCTS, Inside.OPEN_STORING_NOTHING)


def source_of(loss: Loss) -> Source:
    return loss_source(loss, (W, X), {}, (0, 1), False)


@pytest.mark.parametrize("action", [Action.RECOMPUTE, Action.OFFLOAD])
@pytest.mark.parametrize("inside", [Inside.OPEN, *BRANCHES])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_plain_jax(
    name: str, inside: Inside, action: Action
) -> None:
    loss = LOSSES[name]
    traced = source_of(loss).traced(
        lambda body: alike(body, [action] * len(body.values)), inside
    )
    assert traced.graph.inside is inside
    decision = as_policy(action).decide(traced.graph)
    laid_out = schedule(traced.graph, decision.actions, decision.timing)
    machine = Machine(traced, laid_out)
    (value,), gradients = step_of(machine)(W, X)
    wanted_value, wanted = jax.value_and_grad(loss, argnums=(0, 1))(W, X)
    np.testing.assert_allclose(value, wanted_value, rtol=1e-6)
    for found, plain in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(found, plain, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    "loss", [checkpointed, checkpoint_in_jit, nested], ids=lambda loss: loss.__name__
)
def test_values_in_an_open_checkpoint_are_values_of_the_program(loss: Loss) -> None:
    source = source_of(loss)
    closed = source.traced(keep_all).graph
    open_ = source.traced(keep_all, Inside.OPEN).graph
    assert CALLS & {e.primitive for e in closed.equations}
    assert not CALLS & {e.primitive for e in open_.equations}
    assert len(open_.residuals()) > len(closed.residuals())


def test_the_body_of_a_loop_is_opened_too() -> None:
    source = source_of(checkpointed_body)
    (closed,) = source.traced(keep_all).graph.loops
    (open_,) = source.traced(keep_all, Inside.OPEN).graph.loops
    assert CALLS & {e.primitive for e in closed.graph.equations}
    assert not CALLS & {e.primitive for e in open_.graph.equations}


@pytest.mark.parametrize("inside", [Inside.OPEN, *BRANCHES])
def test_a_loop_that_keeps_all_values_of_an_open_checkpoint_stores_them(
    inside: Inside,
) -> None:
    program = source_of(checkpointed_body).traced(keep_all, inside).program
    executed = {
        eqn.primitive.name
        for operation in program.operations
        for body in jaxprs_in_params(operation.eqn.params)
        for eqn in getattr(body, "jaxpr", body).eqns
    }
    assert "tanh" in executed
    assert not CALLS & executed


def stored_bytes(loss: Loss, inside: Inside) -> int:
    """Bytes that the backward pass reads, arguments and results aside."""
    graph = source_of(loss).traced(keep_all, inside).graph
    others = {*graph.arguments, *graph.outputs}
    return sum(graph.values[v].nbytes for v in graph.residuals() if v not in others)


def test_branches_store_less_the_less_they_may() -> None:
    ways = (Inside.AS_WRITTEN, *BRANCHES)
    stored = [stored_bytes(branching, way) for way in ways]
    assert stored == sorted(set(stored), reverse=True)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (without_calls, (Inside.AS_WRITTEN,)),
        (checkpointed, (Inside.OPEN,)),
        (checkpoint_in_jit, (Inside.OPEN,)),
        (checkpointed_body, (Inside.OPEN,)),
        (branching, (Inside.AS_WRITTEN, *BRANCHES)),
        (branching_body, (Inside.OPEN, *BRANCHES)),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_only_ways_that_differ_are_planned_for(
    loss: Loss, expected: tuple[Inside, ...]
) -> None:
    assert source_of(loss).insides == expected


def test_a_checkpoint_that_was_differentiated_stays_closed() -> None:
    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(jax.grad(lambda x: checkpointed(w, x))(x) ** 2)

    backward = jax.make_jaxpr(jax.grad(checkpointed))(W, X).jaxpr
    differentiated = [e for e in backward.eqns if e.params.get("differentiated")]
    assert differentiated
    for eqn in differentiated:
        only = type("Jaxpr", (), {"eqns": [eqn]})
        assert insides_of(only) == (Inside.AS_WRITTEN,)
    found = source_of(loss).traced(keep_all, Inside.OPEN)
    assert CALLS & {e.primitive for e in found.graph.equations}
