"""Searches that count their work, so that they find the same on every machine.

A search ends when its processor time is up. What it finds then depends on the machine.
In the tests the time of a search is what its drafts would take. HiGHS ends when a
solution is good enough, or at a node of its search tree.
"""

from jaxswap._search.search import Search

equation_seconds = 1e-4
"""Seconds that each equation adds to a draft: about what a slow processor needs."""
TIMED = Search.clock, Search.model_limit
"""How a search measures its work everywhere else."""
SOON = {"node_limit": 20, "mip_rel_gap": 0.1}
"""When a solution of the model is good enough for a test."""


def count_searches() -> None:
    """Have every search of this process count its work from now on."""
    Search.clock = seconds_of_drafts
    Search.model_limit = good_enough


def seconds_of_drafts(self: Search) -> float:
    """Return the seconds of all drafts of a search so far, had each the same time."""
    return (
        equation_seconds
        * len(self.arranger.graph.equations)
        * self.arranger.draft_count
    )


def good_enough(self: Search, left_seconds: float, slowdown: float) -> dict[str, float]:
    """Return the end of one solution of the model."""
    del self, left_seconds, slowdown
    return SOON
