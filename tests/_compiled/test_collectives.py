"""Collectives are read from the text of compiled programs, and are as in plain JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxswap
from jaxswap._compiled.collectives import Collective, find_collectives, summarize
from jaxswap._compiled.hlo import parse_module

TEXT = """HloModule jit_f, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%scattered (p: f32[8]) -> f32[2] {
  %p = f32[8]{0} parameter(0)
  ROOT %r = f32[2]{0} reduce-scatter(%p), dimensions={0}, to_apply=%add
}

%unused (p.1: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %n = f32[8]{0} all-reduce(%p.1), to_apply=%add
}

%body (s: f32[8]) -> f32[8] {
  %s = f32[8]{0} parameter(0)
  ROOT %m = f32[8]{0} collective-permute(%s), source_target_pairs={{0,1},{1,0}}
}

%condition (t: f32[8]) -> pred[] {
  %t = f32[8]{0} parameter(0)
  ROOT %y = pred[] constant(true)
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %w = f32[8]{0} while(%x), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %g = (f32[8]{0}, f32[32]{0}) all-gather-start(%w), dimensions={0}
  %gd = f32[32]{0} all-gather-done(%g)
  %k = (f32[8]{0}, f32[8]{0}) all-reduce-start(%w, %x), to_apply=%add
  %kd = (f32[8]{0}, f32[8]{0}) all-reduce-done(%k)
  %q = ((f32[8]{0}), f32[2]{0}) async-start(%x), calls=%scattered
  %qd = f32[2]{0} async-done(%q)
  ROOT %z = f32[8]{0} get-tuple-element(%kd), index=0
}
"""


def test_bytes_are_those_of_results_and_loops_count() -> None:
    found = find_collectives(parse_module(TEXT))
    assert found == (
        Collective("collective-permute", 32, 5, "m"),
        Collective("all-gather", 128, 1, "g"),
        Collective("all-reduce", 64, 1, "k"),
        Collective("reduce-scatter", 8, 1, "q"),
    )


def test_a_summary_counts_by_kind() -> None:
    found = summarize(find_collectives(parse_module(TEXT)))
    assert found["collective-permute"] == (5, 160)
    assert found["all-reduce"] == (1, 64)
    assert list(found) == sorted(found)


def convolutions(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    for kernel in kernels:
        x = jnp.tanh(
            lax.conv_general_dilated(
                x, kernel, (1, 1, 1), "SAME", dimension_numbers=numbers
            )
        )
    return jnp.mean(x**2)


@pytest.mark.parametrize("count", [4, 8])
def test_gradients_are_summed_at_once_as_in_plain_jax(count: int) -> None:
    mesh = AbstractMesh((count,), ("data",), axis_types=(AxisType.Auto,))
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 8, 8), jnp.float32, sharding=whole)
    x = jax.ShapeDtypeStruct((count, 32, 32, 32, 8), jnp.float32, sharding=split)

    def compiled(loss: Any) -> jaxswap.Evidence:
        gradient = jax.value_and_grad(loss)
        options = jaxswap.compiler_options()
        return jaxswap.inspect(
            gradient, [kernel] * 5, x, target="h100", compiler_options=options
        )

    plain = compiled(convolutions)
    swapped = compiled(
        jaxswap.offload(
            convolutions, policy=jaxswap.OFFLOAD, in_shardings=(whole, split)
        )
    )
    assert summarize(swapped.collectives) == summarize(plain.collectives)
    assert summarize(plain.collectives).keys() == {"all-reduce"}
    own_share = x.size // count * 4
    assert 0 < swapped.host_bytes <= 10 * own_share  # two values of each layer


def test_sums_of_split_weights_are_scattered_as_in_plain_jax() -> None:
    """An optimizer computes on a gradient several times before it is split."""
    mesh = AbstractMesh((4,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, P("data"))
    weight = jax.ShapeDtypeStruct((512, 512), jnp.float32, sharding=split)
    x = jax.ShapeDtypeStruct((8192, 512), jnp.float32, sharding=split)

    def products(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for w in weights:
            x = jnp.tanh(x @ w)
        return jnp.mean(x**2)

    optimizer = optax.adam(1e-3)
    weights = [weight] * 4
    state = jax.tree.map(
        lambda leaf: weight if leaf.ndim else leaf,
        jax.eval_shape(optimizer.init, weights),
    )

    def scattered(loss: Any) -> int:
        def update(weights: Any, state: Any, x: jax.Array) -> Any:
            gradients = jax.grad(loss)(weights, x)
            updates, state = optimizer.update(gradients, state, weights)
            return optax.apply_updates(weights, updates), state

        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
            seen = jaxswap.inspect(update, weights, state, x, target="h100")
        assert "all-reduce" not in {one.kind for one in seen.collectives}
        return sum(one.repeats for one in seen.collectives if "scatter" in one.kind)

    swapped = jaxswap.offload(
        products, policy=jaxswap.OFFLOAD, in_shardings=(split, split)
    )
    assert scattered(swapped) == scattered(products) > 0
