"""The least memory, then the fastest plan that needs hardly more.

The plan of the least memory is often several times as slow as one that needs a few
bytes more.
"""

import dataclasses

from jaxswap._search.attempt import Refined, Task
from jaxswap._search.limits import Limits
from jaxswap._search.loops import Programs
from jaxswap._search.measured import Measured
from jaxswap._search.refine import Compile, Progress, refine
from jaxswap._simulate.draft import Draft

HARDLY_MORE = 1.01
"""The smallest plan is the fastest of those that need at most so many times the least
memory."""
FASTER = 1 / 4
"""Share of the programs that are left to be compiled for the fastest of them."""


def find_smallest(
    programs: Programs, compile_: Compile | None, task: Task, progress: Progress
) -> Refined:
    """Find the least memory. Then find the fastest plan that needs hardly more.

    Args:
        programs: Finds drafts.
        compile_: Compiles a draft. `None`: the simulation is trusted.
        task: What is to be found, with limits for the least memory.
        progress: Is told what happens, one line at a time.
    """
    compiled: list[Draft] = []

    def counted(draft: Draft) -> Measured:
        assert compile_ is not None
        compiled.append(draft)
        return compile_(draft)

    counting = counted if compile_ else None
    most = task.most_compiles
    first = dataclasses.replace(task, most_compiles=most - int(FASTER * most))
    smallest = refine(programs, counting, first, progress)
    used = len(compiled)
    if used >= most:
        return smallest
    least = smallest.draft.timeline.device_bytes + smallest.correction_bytes
    further = dataclasses.replace(
        task,
        limits=Limits(int(least * HARDLY_MORE), task.limits.host_bytes),
        most_compiles=most - used,
        correction_bytes=smallest.lasting_bytes,
    )
    faster = refine(programs, compile_, further, progress)
    return _later(faster, used) if faster.fits else smallest


def _later(refined: Refined, count: int) -> Refined:
    """Return a result that was found after so many other programs were compiled."""
    seen = refined.compiled
    if seen is None:
        return refined
    seen = dataclasses.replace(seen, compile_count=seen.compile_count + count)
    return dataclasses.replace(refined, compiled=seen)
