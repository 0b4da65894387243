"""Which results a differentiated operand reaches."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxswap._trace.tangents import reached


def test_a_result_is_reached_only_if_jax_gives_it_a_tangent() -> None:
    @jax.jit
    def inside(x: Any, y: Any) -> Any:
        return x * 2, jax.lax.stop_gradient(x), x > 0, y

    def function(x: Any, y: Any) -> Any:
        return (*inside(x, y), jnp.where(x > 0, y, 1.0), x.astype(int), x * y)

    types = [jax.ShapeDtypeStruct((), jnp.float32)] * 2
    only_x = [True, False, False, False, False, False, True]
    assert reached(function, types, [True, False]) == only_x
    only_y = [False, False, False, True, True, False, True]
    assert reached(function, types, [False, True]) == only_y
    assert reached(function, types, [False, False]) == [False] * 7
