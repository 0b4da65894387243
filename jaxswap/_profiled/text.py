"""Measured steps -> text: their lanes beside the plan's simulated ones."""

from collections.abc import Sequence

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._plans.plan import Plan
from jaxswap._profiled.kernels import kernel_times
from jaxswap._view.step import CopyLane, StepLanes, simulated_step

SHOWN = 15
"""The most lines about kernels in a report."""
LABEL_WIDTH = 70


def describe(
    device: str, steps: Sequence[StepLanes], shown: StepLanes, plan: Plan | None
) -> str:
    """Write measured steps for people.

    Args:
        device: The GPU's name.
        steps: All measured steps.
        shown: The step whose lanes are written.
        plan: The plan that it followed, if one is known.

    Returns:
        The measured lanes, the simulated ones if there is a plan, and the labels whose
        kernels took longest.
    """
    measured = _figures(shown)
    simulated = {} if plan is None else _figures(simulated_step(plan))
    lines = [
        _title(device, steps),
        _line("", "measured", "simulated" if simulated else ""),
    ]
    lines += [
        _line(name, text, simulated.get(name, "")) for name, text in measured.items()
    ]
    return "\n".join([*(line.rstrip() for line in lines), *_kernel_lines(shown)])


def _title(device: str, steps: Sequence[StepLanes]) -> str:
    seconds = [step.seconds for step in steps]
    return (
        f"the median of {len(seconds)} steps on {device}, which took "
        f"{format_seconds(min(seconds))} to {format_seconds(max(seconds))}"
    )


def _line(name: str, measured: str, simulated: str) -> str:
    return f"  {name:<20} {measured:>12}  {simulated:>12}"


def _figures(step: StepLanes) -> dict[str, str]:
    """Return names and values of the lines about the lanes."""
    return {
        "step": format_seconds(step.seconds),
        "kernels": format_seconds(step.compute_seconds),
        "waiting for copies": format_seconds(max(0.0, step.stall_seconds)),
        "idle": format_seconds(max(0.0, step.idle_seconds)),
        **_copy_figures("swap out", step.swap_out),
        **_copy_figures("swap in", step.swap_in),
    }


def _copy_figures(name: str, copies: CopyLane) -> dict[str, str]:
    share = copies.hidden_seconds / copies.seconds if copies.seconds else 1.0
    return {
        name: format_seconds(copies.seconds),
        f"{name}, hidden": f"{share:.0%}",
        f"{name}, copies": f"{copies.count}",
        f"{name}, bytes": format_bytes(copies.nbytes),
    }


def _kernel_lines(step: StepLanes) -> list[str]:
    kernels = kernel_times(step.spans)
    total = sum(one.seconds for one in kernels)
    lines = ["kernels by what they compute, the longest first"]
    for one in kernels[:SHOWN]:
        label = one.label
        if len(label) > LABEL_WIDTH:
            label = f"...{label[3 - LABEL_WIDTH :]}"
        share = one.seconds / total if total else 0.0
        seconds = format_seconds(one.seconds)
        lines.append(f"  {seconds:>9} {share:>4.0%} {one.count:>4} x  {label}")
    if len(kernels) > SHOWN:
        rest = format_seconds(sum(one.seconds for one in kernels[SHOWN:]))
        lines.append(f"  {rest:>9} in {len(kernels) - SHOWN} more")
    return lines
