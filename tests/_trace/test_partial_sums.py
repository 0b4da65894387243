"""Sums over a mesh become parts of each device, and a sum of the parts at the end."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxswap._graph.placement import Placement
from jaxswap._trace.describe import graph_of
from jaxswap._trace.partial_sums import placed, window_of
from jaxswap._trace.program import Program
from jaxswap._trace.tracing import trace

F32 = jnp.float32
MESH = Placement((("data", 4),), (), ())
DATA = ("data",)


def mlp(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    h = jnp.tanh(x @ w + lax.broadcast_in_dim(b, (8, 16), (1,)))
    return jnp.sum(jnp.tanh(h @ w) ** 2)


def traced(fn: Callable[..., Any], shapes: list[tuple[int, ...]]) -> Program:
    operands = [jax.ShapeDtypeStruct(shape, F32) for shape in shapes]
    avals = jax.make_jaxpr(fn)(*operands).out_avals
    wanted = [False, *[True] * (len(shapes) - 1)]
    return trace(lambda *xs: [fn(*xs)], operands, wanted, avals)


SHAPES = [(8, 16), (16, 16), (16,)]
SPLIT = dataclasses.replace(MESH, operands=((DATA, ()), ((), ()), ((),)))


def names(program: Program) -> list[str]:
    return [operation.eqn.primitive.name for operation in program.operations]


def test_on_one_device_nothing_changes() -> None:
    program = traced(mlp, SHAPES)
    assert placed(program, None) is program


def test_gradients_are_made_in_parts_and_summed_at_the_end() -> None:
    program = placed(traced(mlp, SHAPES), SPLIT)
    found = names(program)
    # The gradients of two uses of `w`, that of `b`, and the loss.
    assert found.count("shard_map") == 2 * 4
    deferred = [found[i] for i in sorted(program.deferred)]
    assert set(deferred) == {"shard_map", "add_any", "transpose"}
    assert min(program.deferred) == len(found) - len(deferred)
    stacked = [
        program.specs[operation.outputs[0]]
        for i, operation in enumerate(program.operations)
        if operation.eqn.primitive.name == "shard_map" and i not in program.deferred
    ]
    assert all(spec[0] == DATA for spec in stacked)


def test_parts_cost_what_one_device_computes() -> None:
    whole = graph_of(traced(mlp, SHAPES))
    split = graph_of(placed(traced(mlp, SHAPES), SPLIT))
    heavy = [[e.flops for e in g.equations if e.is_heavy] for g in (whole, split)]
    assert sum(heavy[1]) == pytest.approx(sum(heavy[0]) / 4, rel=0.15)
    assert len(heavy[0]) == len(heavy[1])


def test_what_the_next_operation_reads_is_not_split() -> None:
    """The sum within a norm is needed at once, by all devices."""

    def normed(x: jax.Array, w: jax.Array) -> jax.Array:
        mean = jnp.mean(x @ w, axis=0, keepdims=True)
        return jnp.sum((x @ w - lax.broadcast_in_dim(mean, (8, 16), (0, 1))) ** 2)

    placement = dataclasses.replace(MESH, operands=((DATA, ()), ((), ())))
    program = placed(traced(normed, SHAPES[:2]), placement)
    reductions = [
        operation
        for i, operation in enumerate(program.operations)
        if operation.eqn.primitive.name == "reduce_sum"
    ]
    assert reductions  # the mean's, and that of its gradient


def test_collectives_of_shard_map_come_last_too() -> None:
    found = []

    def local(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
        operands = [x, w, b]
        program = trace(
            lambda *xs: [mlp(*xs)],
            operands,
            [False, True, True],
            [jax.typeof(mlp(*operands))],
        )
        found.append(placed(program, None))
        return lax.psum(mlp(*operands), "data")

    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    jax.make_jaxpr(
        jax.shard_map(
            local, mesh=mesh, in_specs=(spec("data"), spec(), spec()), out_specs=spec()
        )
    )(jnp.ones((32, 16)), *(jnp.ones(shape) for shape in SHAPES[1:]))
    (program,) = found
    late = [names(program)[i] for i in sorted(program.deferred)]
    assert sum("psum" in name for name in late) >= 2
    assert not any("psum" in n for n in names(program)[: min(program.deferred)])


def window(fn: Callable[..., Any], shapes: list[Any], specs: list[Any]) -> Any:
    types = [jax.ShapeDtypeStruct(shape, F32) for shape in shapes]
    (eqn,) = jax.make_jaxpr(fn)(*types).jaxpr.eqns
    return window_of(eqn, specs)


def test_what_is_split_in_two_ways_is_left_to_xla() -> None:
    product = lambda x, y: lax.dot_general(x, y, (((0,), (0,)), ((), ())))  # noqa: E731
    shapes = [(8, 4), (8, 4)]
    ways = window(product, shapes, [(DATA, ()), (DATA, ())])
    assert ways.summed == DATA
    assert window(product, shapes, [(DATA, ()), (("other",), ())]) is None
    # The same axis cannot split the sum and the result.
    assert window(product, shapes, [(DATA, ()), ((), DATA)]) is None
