"""Drafts that were laid out -> better ones, a few actions at a time.

A draft that is fast and needs a little too much memory is often nearer to the best one
that fits than those that fit already. So each byte over the limit has a price, first
about what its copy takes, then higher ones, and from the drafts that cost least at a
price the search goes to ones that cost less.
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
"""Of a byte over the limit, one after the other, in seconds of its copy to the host.
At the last one nothing counts but memory until a draft fits."""
STARTS = 3
"""Drafts from which the search goes on at each price."""
SHORTEST_SECONDS = 2.0
"""For each of them, at least."""


def descend(
    best: Best,
    arranger: Arranger,
    candidates: Candidates,
    lay_out: LayOut,
    deadline: Deadline,
) -> None:
    """Change few actions at a time for as long as it helps.

    Args:
        best: Is offered what is laid out.
        arranger: Of the program.
        candidates: Values whose actions may be changed.
        lay_out: Lays out actions and offers the drafts to `best`.
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
    """Go from a draft to ones that cost less."""
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
