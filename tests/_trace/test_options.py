"""Which options a program gets, and what follows for its convolutions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxswap._gpu.options import CHANNELS_LAST
from jaxswap._trace import equation_cost
from jaxswap._trace.describe import graph_of
from jaxswap._trace.options import options_of, stores_channels_last
from jaxswap._trace.tracing import program_of


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    numbers = ("NCDHW", "DHWIO", "NCDHW")
    return lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=numbers
    )


CLOSED: Any = jax.make_jaxpr(convolve)(
    jnp.ones((1, 16, 8, 8, 8)), jnp.ones((3, 3, 3, 16, 16))
)


def test_a_program_with_volumes_stores_them_channels_last() -> None:
    assert options_of(CLOSED.jaxpr.eqns).get(CHANNELS_LAST, False) == (
        stores_channels_last()
    )
    assert CHANNELS_LAST not in options_of(())


@pytest.mark.parametrize("is_known", [True, False])
def test_a_workspace_is_charged_where_xla_cannot_store_channels_last(
    is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equation_cost, "stores_channels_last", lambda: is_known)
    (eqn,) = graph_of(program_of(CLOSED)).equations
    features, kernel = 16 * 8**3 * 4, 27 * 16 * 16 * 4
    assert eqn.workspace_bytes == (0 if is_known else 2 * features + kernel)
    assert dataclasses.replace(eqn, workspace_bytes=0).flops == eqn.flops
