"""Drafts that were laid out -> better ones, by changing a few actions at a time.

The best draft that fits is often near a fast draft that needs slightly too much memory.
Drafts that already fit are often further away. So each byte over the limit has a price
in seconds. The first price is about what copying the byte takes, and later prices are
higher. At each price the search starts at the cheapest drafts and looks for cheaper
ones.
"""

import functools
from collections.abc import Callable

from jaxswap._search.best import Best, LayOut
from jaxswap._search.candidates import Candidates
from jaxswap._search.clock import Deadline
from jaxswap._search.limits import Aim
from jaxswap._search.moves import neighbours
from jaxswap._simulate.draft import Arranger, Draft

PRICES = (1.0, 4.0, 16.0, 1e9)
"""Prices of a byte over the limit, tried in this order, in times its copy to the host.
At the last one only memory counts until a draft fits."""
STARTS = 3
"""How many drafts the search starts from at each price."""
SHORTEST_SECONDS = 2.0
"""The least time for each of these starts."""


def descend(
    best: Best,
    arranger: Arranger,
    candidates: Candidates,
    lay_out: LayOut,
    deadline: Deadline,
) -> None:
    """Change few actions at a time for as long as it helps.

    Args:
        best: The drafts are offered to it.
        arranger: The arranger of the program.
        candidates: Values whose actions may be changed.
        lay_out: Lays out actions, and offers the drafts to `best`.
        deadline: When to stop.
    """
    copy = 1 / arranger.simulator.rates.swap_out_bytes_per_second
    step = functools.partial(_go_down, best, arranger, candidates, lay_out)
    for price in PRICES if best.limits.aim is Aim.FASTEST else PRICES[-1:]:
        cost = functools.partial(best.cost_seconds, seconds_per_byte=price * copy)
        for draft in sorted(best.front, key=cost)[:STARTS]:
            share = max(deadline.left_seconds / STARTS, SHORTEST_SECONDS)
            step(draft, cost, deadline.within(share))


def _go_down(
    best: Best,
    arranger: Arranger,
    candidates: Candidates,
    lay_out: LayOut,
    draft: Draft,
    cost: Callable[[Draft], float],
    deadline: Deadline,
) -> None:
    """Go from a draft to cheaper ones."""
    last: Draft | None = None
    while draft is not last:
        last, fits = draft, best.is_within(draft)
        for actions in neighbours(arranger.graph, candidates, draft, fits=fits):
            if deadline.is_over:
                return
            if tuple(actions) in best.tried:
                continue
            best.tried.add(tuple(actions))
            draft = min(last, *lay_out(actions), key=cost)
            if draft is not last:
                break
