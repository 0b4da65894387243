"""Drafts of which none is better than another in every respect."""

from collections.abc import Callable, Collection, Iterator

from jaxswap._simulate.draft import Draft

Measures = tuple[int, int, float]


class Front:
    """What a search keeps of all that it laid out.

    A draft stays as long as no other needs as little device memory, as little host
    memory and as little time: what is best below one limit, or nearly fits, is where
    the search below another one begins.
    """

    def __init__(self) -> None:
        self._held: list[tuple[Measures, Draft]] = []

    def __iter__(self) -> Iterator[Draft]:
        """All drafts, the oldest first."""
        return iter([draft for _, draft in self._held])

    def offer(self, draft: Draft) -> None:
        """Take a draft unless another is at least as good; drop those it replaces."""
        mine = _measures(draft)
        if any(_is_covered(mine, other) for other, _ in self._held):
            return
        self._held = [held for held in self._held if not _is_covered(held[0], mine)]
        self._held.append((mine, draft))

    def drop(self, is_stale: Callable[[Draft], bool]) -> None:
        """Forget some drafts."""
        self._held = [held for held in self._held if not is_stale(held[1])]


def swaps_any(draft: Draft, values: Collection[int]) -> bool:
    """Whether any of some values leaves the device."""
    return any(swap.value in values for swap in draft.swaps)


def _measures(draft: Draft) -> Measures:
    timeline = draft.timeline
    return timeline.device_bytes, timeline.host_bytes, timeline.seconds


def _is_covered(mine: Measures, other: Measures) -> bool:
    """Whether another draft is at least as good in every respect."""
    return all(theirs <= own for theirs, own in zip(other, mine, strict=True))
