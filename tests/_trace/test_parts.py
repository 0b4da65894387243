"""Which operations compute a part of their result from parts of their operands."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import export, lax
from jax.ad_checkpoint import checkpoint_name

from jaxswap._run.loss import loss_source
from jaxswap._search.ways import keep_all
from jaxswap._trace.parts import is_in_parts

X = jax.ShapeDtypeStruct((8, 6), jnp.float32)
ROW = jax.ShapeDtypeStruct((1, 6), jnp.float32)


def in_parts(fn: Callable[..., Any], *args: Any) -> dict[str, bool]:
    """Whether each primitive of a function computes in parts."""

    def loss(*args: Any) -> jax.Array:
        return jnp.sum(fn(*args).astype(jnp.float32))

    graph = loss_source(loss, args, {}, (), False).traced(keep_all).graph
    return {eqn.primitive: eqn.is_in_parts for eqn in graph.equations}


@pytest.mark.parametrize(
    ("fn", "primitive"),
    [
        (lambda x: jnp.tanh(x), "tanh"),
        (lambda x: x * 2.0, "mul"),
        (lambda x: lax.select(x > 0, x, -x), "select_n"),
        (lambda x: x.astype(jnp.bfloat16), "convert_element_type"),
        (lambda x: checkpoint_name(x, "here"), "name"),
        (lambda x: x + lax.broadcast_in_dim(x[0], (8, 6), (1,)), "broadcast_in_dim"),
    ],
)
def test_elements_follow_from_those_at_their_place(
    fn: Callable[..., Any], primitive: str
) -> None:
    assert in_parts(fn, X)[primitive]


def test_an_operand_of_size_one_is_repeated() -> None:
    assert in_parts(lambda x, row: lax.mul(x, row), X, ROW)["mul"]


@pytest.mark.parametrize(
    ("fn", "primitive"),
    [
        (lambda x: x.T, "transpose"),
        (lambda x: x.reshape(6, 8), "reshape"),
        (lambda x: jnp.sum(x, 1), "reduce_sum"),
        (lambda x: lax.broadcast_in_dim(x[:, 0], (8, 6), (0,)), "broadcast_in_dim"),
        (lambda x: jnp.cumsum(x, 0), "cumsum"),
        (lambda x: x @ x.T, "dot_general"),
        (lambda x: jnp.sum(x).reshape(1, 1) * jnp.ones((1, 1)), "mul"),
    ],
)
def test_other_elements_are_needed_too(fn: Callable[..., Any], primitive: str) -> None:
    assert not in_parts(fn, X)[primitive]


def test_sizes_that_are_not_known_are_not_cut() -> None:
    (rows,) = export.symbolic_shape("rows")
    x = jax.ShapeDtypeStruct((rows, 6), jnp.float32)
    source = loss_source(lambda x: jnp.sum(jnp.tanh(x)), (x,), {}, (), False)
    program = source.program(keep_all, source.insides[0])
    tanh = next(o for o in program.operations if o.eqn.primitive.name == "tanh")
    assert not is_in_parts(tanh)
