"""Specs of all values follow from those of the operands."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxswap._graph.placement import Placement, Spec
from jaxswap._trace.propagation import specs_of
from jaxswap._trace.tracing import program_of

MESH = Placement((("d", 2), ("h", 4)), (), ())
D, H = ("d",), ("h",)


def follow(fn: Callable[..., Any], *given: tuple[tuple[int, ...], Spec]) -> Spec:
    types = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape, _ in given]
    program = program_of(jax.make_jaxpr(fn)(*types))
    specs = specs_of(program, [spec for _, spec in given], MESH)
    (output,) = program.outputs
    assert isinstance(output, int)
    return specs[output]


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1,), "SAME")


def kernel_gradient(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.grad(lambda k: jnp.sum(jnp.sin(convolve(x, k))))(kernel)


def running(x: jax.Array) -> jax.Array:
    return lax.scan(lambda c, row: (c + row, c * row), x[0] * 0.0, x)[1]


X = ((4, 8), (D, H))
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Spec]] = {
    "element by element": (lambda x: jnp.tanh(x) * 2.0, (X,), (D, H)),
    "the split operand decides": (
        lambda x, y: x * y,
        (((4, 8), ((), ())), X),
        (D, H),
    ),
    "a dimension of one is not split": (
        lambda x, y: x + y,
        (((1, 8), ((), H)), ((4, 8), (D, ()))),
        (D, H),
    ),
    "transpose": (lambda x: x.T, (X,), (H, D)),
    "broadcast": (
        lambda x: lax.broadcast_in_dim(x, (3, 4, 8), (1, 2)),
        (X,),
        ((), D, H),
    ),
    "sum": (lambda x: jnp.sum(x, 1), (X,), (D,)),
    "merge": (lambda x: x.reshape(32), (X,), (D,)),
    "split": (lambda x: x.reshape(4, 4, 2), (X,), (D, H, ())),
    "squeeze": (lambda x: x.reshape(1, 4, 8)[0], (X,), (D, H)),
    "parts that are not equal": (lambda x: x[:, :6], (X,), (D, ())),
    "slice": (lambda x: x[:, :4], (X,), (D, H)),
    "pad": (lambda x: jnp.pad(x, ((0, 0), (0, 4))), (X,), (D, H)),
    "concatenate": (lambda x: jnp.concatenate([x, x], 1), (X,), (D, ())),
    "product": (lambda x, w: x @ w, (X, ((8, 6), ((), ()))), (D, ())),
    "product with split columns": (
        lambda x, w: x @ w,
        (((4, 8), (D, ())), ((8, 4), ((), H))),
        (D, H),
    ),
    "convolution": (
        convolve,
        (((4, 3, 8), (D, (), H)), ((5, 3, 3), ((), (), ()))),
        (D, (), H),
    ),
    "gradient of a kernel": (
        kernel_gradient,
        (((4, 3, 8), (D, (), H)), ((5, 3, 3), ((), (), ()))),
        ((), (), ()),
    ),
    "loop over rows": (running, (((6, 8), ((), H)),), ((), H)),
    "look-up": (
        lambda x, w: jnp.take(w, x.astype(jnp.int32), axis=0),
        (((4,), (D,)), ((10, 8), ((), ()))),
        (D, ()),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_results_are_split_like_what_they_come_from(name: str) -> None:
    fn, given, expected = CASES[name]
    assert follow(fn, *given) == expected


def test_constraints_decide() -> None:
    mesh = jax.make_mesh(
        (2, 4), ("d", "h"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "h"))
    found = follow(lambda x: lax.with_sharding_constraint(x, split), ((4, 8), (D, ())))
    assert found == ((), H)
