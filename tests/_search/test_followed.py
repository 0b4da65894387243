"""The drafts of policies, with which a search begins."""

import dataclasses

from handmade import products, rates, results_of

from jaxswap._graph.graph import Action
from jaxswap._search.followed import Followed
from jaxswap._search.limits import Limits
from jaxswap._search.sketches import SketchMemory
from jaxswap._simulate.draft import Arranger
from jaxswap._sketch.sketch import Sketcher
from jaxswap.policies import OffloadDots


def test_what_lies_in_host_memory_is_not_swapped() -> None:
    graph = products(3)
    made = results_of(graph, "dot")
    values = list(graph.values)
    here = dataclasses.replace(values[made[1]], nbytes=0, host_nbytes=1 << 30)
    values[made[1]] = here
    graph = dataclasses.replace(graph, values=tuple(values))
    arranger = Arranger(graph, rates())
    sketches = SketchMemory(Sketcher(arranger))
    (trial,) = Followed(arranger, sketches, [OffloadDots()]).drafts(Limits(0))
    assert trial.action(made[0]) is Action.OFFLOAD
    assert trial.action(made[1]) is Action.KEEP
    # So it stays in drafts that are made from this one, too.
    again = arranger.arrange([trial.action(v) for v in range(len(values))], 0)
    assert {swap.value for swap in again.swaps} >= {made[0]}
    assert made[1] not in {swap.value for swap in again.swaps}
