"""A loop's body and its steps -> device memory for what one iteration takes and gives.

A loop holds what it carries at one place. An iteration that still reads the old value
when it makes the new one needs a second place for it, until it ends. Otherwise the
place is free in between.

A slice of a scanned array is cut out for operations that do not fuse. What fuses reads
it where it lies. What a loop inside of the body has stacked is a slice of a result, and
is copied there when that loop has ended.
"""

import numpy as np

from jaxswap._graph.graph import Graph
from jaxswap._simulate.kernels import Fusion, Kernel
from jaxswap._simulate.timeline import Timeline

LOOP = "scan"
"""The primitive of a loop of the program. What sweeps over slabs run is a call."""


def bytes_of_places(body: Graph, fusion: Fusion, timeline: Timeline) -> np.ndarray:
    """Return the device memory for both at each step of one iteration.

    The places that hold what is carried between iterations count zero.
    """
    steps, sizes = timeline.steps.steps, [v.nbytes for v in body.values]
    nbytes = np.zeros(len(steps), np.int64)
    sliced, stacked = set(body.sliced), {*body.outputs} - {*body.handed_on}
    read: dict[int, int] = {}
    made: dict[int, int] = {}
    for at, step in enumerate(steps):
        if isinstance(step, Kernel):
            read |= dict.fromkeys(step.arguments, at)
            results = [timeline.steps.values[b] for b in step.makes]
            made |= dict.fromkeys(results, at)
            if body.equations[step.equation].primitive == LOOP:
                nbytes[at] += sum(sizes[v] for v in stacked.intersection(results))
            if not fusion.is_fusible[step.equation]:
                nbytes[at] += sum(sizes[v] for v in sliced.intersection(step.arguments))
    for old, new in zip(body.carried, body.handed_on, strict=False):
        since = made.get(fusion.base.get(new, new))
        if since is None:
            continue
        last = read.get(old, -1)
        if last >= since:
            nbytes[since:] += sizes[new]
        else:
            nbytes[last + 1 : since] -= sizes[new]
    return nbytes
