"""Types and arrays in host memory."""

import jax
import jax.numpy as jnp

from jaxswap import _compat
from jaxswap._sweeps.host_arrays import empty_on_host, in_host_memory


def test_an_array_is_allocated_in_host_memory() -> None:
    aval = in_host_memory(jax.typeof(jnp.ones(2, jnp.bfloat16)), (3, 5))
    assert _compat.is_on_host(aval)
    jaxpr = jax.make_jaxpr(lambda: empty_on_host(aval))()
    (found,) = jaxpr.jaxpr.outvars
    assert _compat.is_on_host(found.aval)
    assert (found.aval.shape, found.aval.dtype) == ((3, 5), jnp.bfloat16)
