"""The best draft -> the same, with as many of the last values kept as fit.

The backward pass reads the last values first, when memory is fullest. So in a deep
program of equal layers, the first layers are the ones to recompute.
"""

from jaxswap._search.best import Best, LayOut
from jaxswap._search.candidates import Candidates
from jaxswap._search.trial import trial_of
from jaxswap._sketch.sketch import codes


def relax(best: Best, candidates: Candidates, lay_out: LayOut) -> None:
    """Keep as many of the last values as fit. The others keep their actions.

    Args:
        best: The best draft, if one fits. Drafts are offered to it.
        candidates: Values whose actions may be changed.
        lay_out: Lays out actions, and offers the drafts to `best`.
    """
    if not best.fits:
        return
    start = trial_of(best.draft)
    values = candidates.forward
    few, enough = 0, len(values)
    while enough - few > 1:
        count = (few + enough) // 2
        numbers = codes(candidates.fixed)
        for v in values[:count]:
            numbers[v] = start.numbers[v]
        draft = lay_out(numbers, start.hold_for)[0]
        few, enough = (few, count) if best.is_within(draft) else (count, enough)
