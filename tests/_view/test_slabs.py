"""What a report says of slabs."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import jaxswap
from jaxswap import Slabs
from jaxswap._view.slabs import slab_lines, sweeps_of

X = jax.ShapeDtypeStruct((1, 64, 16, 2), jnp.float32)
NETWORK = nn.Sequential([nn.Conv(4, (3, 3)), nn.tanh, nn.Conv(2, (3, 3)), nn.tanh])


@pytest.mark.usefixtures("own_folders")
def test_sweeps_are_counted_and_named_after_what_they_make() -> None:
    def loss(variables: Any, x: Any) -> jax.Array:
        y: Any = NETWORK.apply(variables, x)
        return jnp.mean(y**2)

    variables = jax.eval_shape(NETWORK.init, jax.random.key(0), X)
    plan = jaxswap.plan(
        loss,
        variables,
        X,
        target="h100",
        compile=False,
        progress=False,
        slabs=Slabs(4, levels=2, axis=1, recomputed=0),
    )
    found = sweeps_of(plan.graph)
    cut, made = slab_lines(plan)
    assert cut == "up to 4 along dimension 1, on 2 levels"
    assert made.startswith(f"{len(found)} sweeps over all slabs write ")
    scopes = {plan.graph.values[outputs[0]].scope for outputs in found.values()}
    assert any("layers_0" in scope for scope in scopes)
    assert len(found) == sum(eqn.primitive == "jit" for eqn in plan.graph.equations)
