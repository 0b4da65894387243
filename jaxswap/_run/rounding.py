"""Rounding to 16 bits at the place where a value is computed."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxswap._schedule.instructions import Run, Schedule
from jaxswap._trace.describe import Traced


def rounded_values(traced: Traced, schedule: Schedule) -> frozenset[int]:
    """Return the values in 16 bits that are stored in another form than they are used.

    XLA may compute with more digits than bfloat16 has, and rounds where a value is
    stored. Then both passes would see other numbers. A program that keeps everything is
    that of plain JAX, and is left to XLA.
    """
    steps = (*schedule.forward, *schedule.backward)
    if not traced.graph.is_body and all(isinstance(step, Run) for step in steps):
        return frozenset()
    stored = {*schedule.device_residuals, *schedule.host_residuals}
    return frozenset(
        v
        for eqn in traced.graph.equations
        for v in eqn.outputs
        if eqn.is_cheap and v in stored and traced.graph.values[v].dtype == jnp.bfloat16
    )


def in_its_type(array: Any) -> Any:
    """Round to bfloat16 at this place, where XLA would round only what is stored."""
    kind = jnp.finfo(jnp.bfloat16)
    return lax.reduce_precision(
        array, exponent_bits=kind.nexp, mantissa_bits=kind.nmant
    )
