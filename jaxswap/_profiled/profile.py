"""`Profile`: what a GPU did in a step, beside what a plan said it would do."""

import dataclasses
import os
import statistics
from pathlib import Path

from jaxswap._plans.plan import Plan
from jaxswap._profiled.kernels import KernelTime, kernel_times
from jaxswap._profiled.text import describe
from jaxswap._view.perfetto import (
    PROFILE_PROCESS,
    plan_events,
    step_events,
    write_trace,
)
from jaxswap._view.step import CopyLane, StepLanes


@dataclasses.dataclass(frozen=True, eq=False)
class Profile:
    """What a GPU did in one step, measured by `jaxswap.profile`.

    The figures are those of the step with the median duration. `print` shows them, with
    the plan's simulated ones beside them if there is a plan.

    Attributes:
        device: The GPU's name.
        steps: All steps that were recorded, in order.
        plan: The plan that the step followed. `None` if none is known.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> if jax.default_backend() == "gpu":
        ...     step = jax.jit(jax.grad(lambda w: jnp.sum(w @ w)))
        ...     profile = jaxswap.profile(step, jnp.eye(1024))
        ...     longest = profile.by_label[0]
    """

    device: str
    steps: tuple[StepLanes, ...]
    plan: Plan | None = None

    @property
    def step(self) -> StepLanes:
        """The step whose figures are shown: the one with the median duration."""
        middle = statistics.median_low(step.seconds for step in self.steps)
        return next(step for step in self.steps if step.seconds == middle)

    @property
    def seconds(self) -> float:
        """Time from the start of the first kernel or copy to the end of the last."""
        return self.step.seconds

    @property
    def compute_seconds(self) -> float:
        """Time in which at least one kernel ran. Copies within the device count."""
        return self.step.compute_seconds

    @property
    def swap_out(self) -> CopyLane:
        """Copies to the host: `count`, `nbytes`, `seconds` and `hidden_seconds`."""
        return self.step.swap_out

    @property
    def swap_in(self) -> CopyLane:
        """Copies to the device, as `swap_out`."""
        return self.step.swap_in

    @property
    def stall_seconds(self) -> float:
        """Time in which copies ran but no kernel."""
        return self.step.stall_seconds

    @property
    def idle_seconds(self) -> float:
        """Time in which nothing ran."""
        return self.step.idle_seconds

    @property
    def by_label(self) -> tuple[KernelTime, ...]:
        """Kernels added up by what they compute, the longest first."""
        return kernel_times(self.step.spans)

    @property
    def by_kernel(self) -> tuple[KernelTime, ...]:
        """Kernels added up by their own names (`label`), the longest first."""
        return kernel_times(self.step.spans, by_name=True)

    def __str__(self) -> str:
        """Write the lanes, beside those of the plan, and the longest kernels."""
        return describe(self.device, self.steps, self.step, self.plan)

    def __repr__(self) -> str:
        """Write the main numbers on one line."""
        return (
            f"Profile(device={self.device!r}, steps={len(self.steps)}, "
            f"seconds={self.seconds:.6g}, stall_seconds={self.stall_seconds:.6g})"
        )

    def to_perfetto(self, path: str | os.PathLike[str]) -> Path:
        """Write the step to a file that ui.perfetto.dev opens.

        If there is a plan, its simulated step is in the same file, on the same axis.

        Args:
            path: The file to write. Its name must end in `.json`, and its folder must
                exist.

        Returns:
            The path.

        Raises:
            ValueError: If the path does not end in `.json`.
            FileNotFoundError: If the folder does not exist.
        """
        name = f"{self.device}, measured"
        events = step_events(self.step, PROFILE_PROCESS, name)
        simulated = [] if self.plan is None else plan_events(self.plan)
        return write_trace(path, [*events, *simulated])
