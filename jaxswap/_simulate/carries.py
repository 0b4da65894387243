"""A loop's body and its steps -> device memory for what one iteration takes and gives.

A loop holds what it carries at one place. An iteration that still reads the old value
when it makes the new one needs a second place for it, until it ends. Otherwise the
place is free in between.

A slice of a scanned array is cut out for operations that do not fuse. What fuses reads
it where it lies.
"""

import numpy as np

from jaxswap._graph.graph import Graph
from jaxswap._simulate.kernels import Fusion, Kernel
from jaxswap._simulate.timeline import Timeline


def bytes_of_places(body: Graph, fusion: Fusion, timeline: Timeline) -> np.ndarray:
    """Return the device memory for both at each step of one iteration.

    The places that hold what is carried between iterations count zero.
    """
    steps, sizes = timeline.steps.steps, [v.nbytes for v in body.values]
    nbytes = np.zeros(len(steps), np.int64)
    sliced = set(body.sliced)
    read: dict[int, int] = {}
    made: dict[int, int] = {}
    for at, step in enumerate(steps):
        if isinstance(step, Kernel):
            read |= dict.fromkeys(step.arguments, at)
            made |= {timeline.steps.values[b]: at for b in step.makes}
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
