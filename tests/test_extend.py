"""What is needed to extend jaxswap has a public name, and is enough."""

import inspect
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import jaxswap
from jaxswap import extend
from jaxswap.extend import Decision, Graph, Policy, Timing

NAMES = [
    name
    for name in dir(extend)
    if not (name.startswith("_") or inspect.ismodule(getattr(extend, name)))
]


class RecomputeElementwise:
    """A policy as a user writes it: public names alone."""

    def decide(self, graph: Graph) -> Decision:
        actions = [jaxswap.KEEP] * len(graph.values)
        for eqn in graph.equations:
            if eqn.is_cheap and not eqn.is_backward:
                for v in eqn.outputs:
                    actions[v] = jaxswap.RECOMPUTE
        return Decision(tuple(actions), Timing(min_bytes=0))


def loss(w: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(jnp.sin(w @ w)))


@pytest.mark.parametrize("name", NAMES)
def test_name_is_documented(name: str) -> None:
    assert getattr(extend, name).__doc__


def test_a_policy_can_be_written_without_jax() -> None:
    program = "import sys, jaxswap.extend; print('jax' in sys.modules)"
    command = [sys.executable, "-c", program]
    root = pathlib.Path(__file__).parent.parent
    done = subprocess.run(
        command, cwd=root, check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["False"]


def test_a_name_that_extend_lacks_is_an_error() -> None:
    name = "Zebra"
    with pytest.raises(AttributeError, match="has no attribute 'Zebra'"):
        getattr(extend, name)


def test_a_policy_class_of_a_user_decides() -> None:
    policy = RecomputeElementwise()
    assert isinstance(policy, Policy)
    w = jnp.eye(3) + 0.1
    gradient = jax.grad(jaxswap.offload(loss, policy=policy))(w)
    assert jnp.allclose(gradient, jax.grad(loss)(w))


def test_a_plan_by_a_users_policy_can_be_read_with_public_names() -> None:
    w = jax.ShapeDtypeStruct((512, 512), jnp.float32)
    plan = jaxswap.plan(
        loss, w, target="h100", policy=RecomputeElementwise(), compile=False
    )
    assert isinstance(plan.graph, extend.Graph)
    assert isinstance(plan.timeline, extend.Timeline)
    recomputed = [
        value.primitive
        for value, action in zip(plan.graph.values, plan.actions, strict=True)
        if action is jaxswap.RECOMPUTE
    ]
    assert {"sin", "tanh"} <= set(recomputed)
