"""A case -> what the program needs that XLA compiles for a GPU that is not there.

Bytes and copies are read from the compiled program. Seconds are simulated at the
GPU's published rates, for JAX's own methods too: their programs are traced, every
operation of the step is charged, and copies that nothing runs beside are added at
the link's rate. Nothing is executed.
"""

import dataclasses
import time
from typing import Any

import jax

import jaxswap
from benchmarks.case import Case, budget_bytes
from benchmarks.methods import Method, loss_of
from jaxswap.extend import rates_of

FIELDS = ("argument_bytes", "output_bytes", "alias_bytes", "temp_bytes", "host_bytes")
AT_ONCE = 1e18
"""Bytes a second of a link that costs no time."""
MOST_COMPILES = 8


def measure(case: Case, plain: dict[str, Any] | None = None) -> dict[str, Any]:
    """Compile one training step, loss and gradient, for the case's target.

    Args:
        case: What to measure.
        plain: The plain program's measurement, for budgets that are shares of it.

    Returns:
        Bytes, copies and seconds; `"error"` where the budget or XLA refuses.
    """
    loss, args, method = loss_of(case.method, case.workload, is_tiny=case.is_tiny)
    try:
        if method.needs_budget:
            return _planned(loss, args, method, case, plain)
        return _unplanned(loss, args, method, case)
    except jaxswap.BudgetError as failure:
        return {
            "error": "does not fit",
            "budget_bytes": failure.budget_bytes,
            "smallest_bytes": failure.smallest_bytes,
        }
    except jax.errors.JaxRuntimeError as failure:
        return {"error": str(failure).splitlines()[0]}


def _planned(
    loss: Any, args: Any, method: Method, case: Case, plain: dict[str, Any] | None
) -> dict[str, Any]:
    start = time.perf_counter()
    plan = jaxswap.plan(
        loss,
        *args,
        budget=budget_bytes(case.budget, plain),
        policy=method.policy,
        target=case.target,
        most_compiles=MOST_COMPILES,
    )
    made = plan.compiled
    assert made is not None
    return {
        "budget_bytes": plan.budget_bytes,
        "device_bytes": made.device_bytes,
        "temp_bytes": made.temp_bytes,
        "host_bytes": made.host_bytes,
        "copied_bytes": made.swapped_bytes,
        "exposed_bytes": made.exposed_bytes,
        "predicted_device_bytes": made.predicted_device_bytes,
        "compile_count": made.compile_count,
        "planning_and_compile_seconds": time.perf_counter() - start,
        "simulated_seconds": plan.seconds,
    }


def _unplanned(loss: Any, args: Any, method: Method, case: Case) -> dict[str, Any]:
    start = time.perf_counter()
    policy = method.policy or jaxswap.KEEP
    plan = jaxswap.plan(
        loss, *args, policy=policy, target=case.target, compile=False, progress=False
    )
    trace_seconds = time.perf_counter() - start
    if method.is_planned:
        loss = jaxswap.offload(loss, plan=plan)
    seen = jaxswap.inspect(
        jax.value_and_grad(loss),
        *args,
        target=case.target,
        compiler_options=method.options,
    )
    measured = evidence(seen) | {"trace_and_simulate_seconds": trace_seconds}
    if method.is_planned:
        return measured | {"simulated_seconds": plan.seconds}
    return measured | {"simulated_seconds": _seconds(plan, seen.exposed_bytes)}


def _seconds(plan: jaxswap.Plan, exposed_bytes: int) -> float:
    """Seconds of a step of JAX's own; copies beside which something runs take none."""
    rates = rates_of(plan.target)
    at_once = dataclasses.replace(
        rates, swap_out_bytes_per_second=AT_ONCE, swap_in_bytes_per_second=AT_ONCE
    )
    target = dataclasses.replace(plan.target, rates=at_once)
    computing_seconds = dataclasses.replace(plan, target=target).seconds
    return computing_seconds + exposed_bytes / rates.swap_in_bytes_per_second


def evidence(seen: jaxswap.Evidence) -> dict[str, Any]:
    """Return the figures of a compiled program that are recorded."""
    return {field: getattr(seen, field) for field in FIELDS} | {
        "device_bytes": seen.device_bytes,
        "copies": len(seen.copies),
        "exposed_copies": len(seen.exposed_copies),
        "copied_bytes": seen.swapped_bytes,
        "exposed_bytes": seen.exposed_bytes,
        "compile_seconds": seen.compile_seconds,
    }
