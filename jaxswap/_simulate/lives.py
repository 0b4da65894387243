"""Steps -> how long each buffer holds memory."""

import numpy as np

from jaxswap._simulate.kernels import NO_BUFFER, Kernel, PlannedCopy, Steps, Wait


def copied_until(steps: Steps) -> dict[int, int]:
    """Return the last step at which a buffer is copied to the host, if it ever is.

    A copy ends where it is waited for, or else with the pass.
    """
    leaving: dict[int, tuple[int, int]] = {}
    for at, step in enumerate(steps.steps):
        if isinstance(step, PlannedCopy) and not step.is_inward:
            is_forward = at < steps.forward_count
            end = steps.forward_count if is_forward else len(steps.steps)
            leaving[step.value] = (step.buffer, end - 1)
        elif isinstance(step, Wait):
            for v in step.values:
                leaving[v] = (leaving[v][0], at - 1)
    found: dict[int, int] = {}
    for buffer, until in leaving.values():
        if buffer != NO_BUFFER:
            found[buffer] = max(found.get(buffer, until), until)
    return found


def freed_of(steps: Steps) -> np.ndarray:
    """Return the last step at which each buffer holds memory."""
    freed = np.array(steps.last_reads, np.int64)
    for buffer, until in copied_until(steps).items():
        freed[buffer] = max(freed[buffer], until)
    for at, step in enumerate(steps.steps):
        for buffer in step.overwrites if isinstance(step, Kernel) else ():
            if freed[buffer] == at:
                freed[buffer] -= 1
    return freed
