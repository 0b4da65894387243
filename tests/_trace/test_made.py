"""The bytes of all that a function makes, before its gradient is traced."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import export, lax

from jaxswap._trace.made import Made, made_by

X = jnp.ones((4, 4))
NBYTES = 64


def made(fn: Any, *args: Any) -> Made | None:
    return made_by(jax.make_jaxpr(fn)(*args or (X,)).jaxpr)


def looped(x: jax.Array) -> jax.Array:
    return lax.scan(lambda c, _: (lax.sin(c), None), x, None, length=10)[0]


@jax.custom_vjp
def with_rule(x: jax.Array) -> jax.Array:
    return x


with_rule.defvjp(lambda x: (x, jnp.ones((100, 100))), lambda _, ct: (ct,))


def test_each_value_counts_and_the_largest_one_by_itself() -> None:
    found = made(lambda x: lax.concatenate([lax.sin(x), x], 0))
    assert found == Made(3 * NBYTES, 2 * NBYTES)


def test_a_loop_makes_its_values_in_each_iteration() -> None:
    assert made(looped) == Made(11 * NBYTES, 10 * NBYTES)


def test_what_is_called_counts_too() -> None:
    found = made(jax.checkpoint(lambda x: lax.cos(lax.sin(x))))
    assert found == Made(3 * NBYTES, NBYTES)


@pytest.mark.parametrize("fn", [with_rule, jax.checkpoint(lambda x: with_rule(x))])
def test_what_a_rule_stores_is_not_known(fn: Any) -> None:
    assert made(fn) is None


def test_symbolic_dimensions_have_no_bytes() -> None:
    (batch,) = export.symbolic_shape("batch")
    assert made(lax.sin, jax.ShapeDtypeStruct((batch, 4), jnp.float32)) is None


def test_what_devices_exchange_is_left_to_the_schedule() -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")
    fn = jax.shard_map(
        lambda x: lax.psum(x, "data"), mesh=mesh, in_specs=spec, out_specs=spec
    )
    assert made(fn) is None
