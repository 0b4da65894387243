"""What the simulated seconds of a plan rest on."""

from collections.abc import Iterator

from jaxswap._base.units import format_seconds
from jaxswap._gpu.target import rates_of
from jaxswap._plans.plan import Plan
from jaxswap._simulate.kernels import Kernel


def measured_seconds(plan: Plan) -> float:
    """Return the computing seconds of operations that were timed one by one."""
    known = rates_of(plan.target).operation_seconds
    equations, timeline = plan.graph.equations, plan.timeline
    return sum(
        float(seconds)
        for seconds, step in zip(timeline.seconds_of, timeline.steps.steps, strict=True)
        if isinstance(step, Kernel) and equations[step.equation].operation in known
    )


def basis_line(plan: Plan) -> str:
    """Say in words which part of the seconds was measured, and what the rest is."""
    rates = rates_of(plan.target)
    measured, computing = measured_seconds(plan), plan.timeline.compute_seconds
    share = f" ({measured / computing:.0%})" if computing else ""
    found = f"{format_seconds(measured)}{share}" if measured else "nothing"
    call = format_seconds(rates.call_seconds)
    return (
        f"{found} measured by operation; the rest follows from {rates.basis} rates; "
        f"{call} more for each call that is waited for"
    )


def pinning_line(plan: Plan) -> Iterator[str]:
    """Say what the first step waits for while its host memory becomes pinned."""
    if plan.host_bytes:
        rate = rates_of(plan.target).pinning_bytes_per_second
        seconds = format_seconds(plan.host_bytes / rate)
        yield f"the first step waits {seconds} until this memory is pinned"
