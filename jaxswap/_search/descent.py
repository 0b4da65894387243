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
from jaxswap._search.limits import Aim
from jaxswap._search.moves import changed, neighbours
from jaxswap._search.quota import Quota
from jaxswap._search.trial import Laid, trial_of
from jaxswap._simulate.draft import Arranger

PRICES = (1.0, 4.0, 16.0, 1e9)
"""Prices of a byte over the limit, tried in this order, in times its copy to the host.
At the last one only memory counts until a draft fits."""
STARTS = 3
"""How many drafts the search starts from at each price."""
FEWEST = 60
"""The least number of drafts for each of these starts."""


def descend(
    best: Best,
    arranger: Arranger,
    candidates: Candidates,
    lay_out: LayOut,
    quota: Quota,
) -> None:
    """Change few actions at a time for as long as it helps.

    Args:
        best: The drafts are offered to it.
        arranger: The arranger of the program.
        candidates: Values whose actions may be changed.
        lay_out: Lays out actions, and offers the drafts to `best`.
        quota: How many drafts to lay out.
    """
    copy = 1 / arranger.simulator.rates.swap_out_bytes_per_second
    step = functools.partial(_go_down, best, arranger, candidates, lay_out)
    for price in PRICES if best.limits.aim is Aim.FASTEST else PRICES[-1:]:
        cost = functools.partial(best.cost_seconds, seconds_per_byte=price * copy)
        for draft in sorted(best.front, key=cost)[:STARTS]:
            share = max(quota.left // STARTS, FEWEST)
            step(draft, cost, quota.within(share))


def _go_down(
    best: Best,
    arranger: Arranger,
    candidates: Candidates,
    lay_out: LayOut,
    draft: Laid,
    cost: Callable[[Laid], float],
    quota: Quota,
) -> None:
    """Go from a draft to cheaper ones."""
    last: Laid | None = None
    while draft is not last:
        last, fits = draft, best.is_within(draft)
        trial = trial_of(draft)
        for change in neighbours(arranger.graph, candidates, trial, fits=fits):
            if quota.is_over:
                return
            numbers = changed(trial.numbers, change)
            key = trial.hold_for, numbers.tobytes()
            if key in best.tried:
                continue
            best.tried.add(key)
            draft = min(last, *lay_out(numbers, trial.hold_for), key=cost)
            if draft is not last:
                break
