"""What a simulated step does when: plain data for planner and reports."""

import dataclasses

import numpy as np

from jaxswap._simulate.kernels import Kernel, PlannedCopy, Steps


@dataclasses.dataclass(frozen=True, slots=True)
class Transfer:
    """One copy between device and host.

    Attributes:
        value: What is copied.
        is_inward: Whether it goes from the host to the device.
        step: Index of the step at which it is issued.
        start_seconds: When it begins.
        seconds: How long it takes.
    """

    value: int
    is_inward: bool
    step: int
    start_seconds: float
    seconds: float

    @property
    def end_seconds(self) -> float:
        """When it is done."""
        return self.start_seconds + self.seconds


@dataclasses.dataclass(frozen=True, eq=False)
class Timeline:
    """A simulated forward and backward pass.

    Attributes:
        steps: What runs, in order.
        starts: Second at which each step begins.
        seconds_of: Seconds that each step computes.
        stalls: Seconds that computation waits right before each step.
        transfers: Copies, in order of issue.
        device_bytes_at: Device memory at each step, arguments and results included.
        host_bytes_at: Pinned host memory at each step.
        freed: The last step at which each buffer holds memory.
        caller_bytes: The part of device memory that arguments and results take.
        seconds: The whole step.
    """

    steps: Steps
    starts: np.ndarray
    seconds_of: np.ndarray
    stalls: np.ndarray
    transfers: tuple[Transfer, ...]
    device_bytes_at: np.ndarray
    host_bytes_at: np.ndarray
    freed: np.ndarray
    caller_bytes: int
    seconds: float

    @property
    def device_bytes(self) -> int:
        """Peak of device memory."""
        return int(self.device_bytes_at.max(initial=self.caller_bytes))

    @property
    def host_bytes(self) -> int:
        """Peak of pinned host memory."""
        return int(self.host_bytes_at.max(initial=0))

    @property
    def stall_seconds(self) -> float:
        """Seconds that computation waits for copies."""
        return self.seconds - self.compute_seconds

    @property
    def compute_seconds(self) -> float:
        """Seconds of computation, recomputations included."""
        return float(self.seconds_of.sum())

    @property
    def recompute_seconds(self) -> float:
        """Seconds of recomputations."""
        return float(
            sum(
                seconds
                for step, seconds in zip(self.steps.steps, self.seconds_of, strict=True)
                if isinstance(step, Kernel) and step.is_recomputed
            )
        )

    def alive(self, at: int) -> list[int]:
        """Buffers that hold memory at a step, the caller's left out."""
        made = self.made()
        return [
            b
            for b, (start, end) in enumerate(zip(made, self.freed, strict=True))
            if start <= at <= max(start, end) and not self.steps.is_fixed[b]
        ]

    def made(self) -> list[int]:
        """The step that makes each buffer."""
        made = [0] * len(self.steps.values)
        for at, step in enumerate(self.steps.steps):
            if isinstance(step, Kernel):
                for b in step.makes:
                    made[b] = at
            elif isinstance(step, PlannedCopy) and step.is_inward:
                made[step.buffer] = at
        return made
