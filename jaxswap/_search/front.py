"""Drafts of which none is better than another in all respects."""

from collections.abc import Callable, Collection, Iterator

from jaxswap._search.trial import Laid

Measures = tuple[int, int, int, float]


class Front:
    """The drafts that a search remembers.

    A draft is dropped if another one needs no more device memory, with and without the
    gaps between buffers, no more host memory and no more time. The others are starting
    points for other limits: what is best under one limit, or nearly fits it, may be
    close to the best under the next.
    """

    def __init__(self) -> None:
        self._held: list[tuple[Measures, Laid]] = []

    def __iter__(self) -> Iterator[Laid]:
        """All drafts, the oldest first."""
        return iter([draft for _, draft in self._held])

    def offer(self, draft: Laid) -> None:
        """Take a draft unless another is at least as good. Drop drafts it replaces."""
        mine = _measures(draft)
        for held, _ in self._held:
            if _is_covered(mine, held):
                return
        self._held = [held for held in self._held if not _is_covered(held[0], mine)]
        self._held.append((mine, draft))

    def drop(self, is_stale: Callable[[Laid], bool]) -> None:
        """Forget some drafts."""
        self._held = [held for held in self._held if not is_stale(held[1])]


def swaps_any(draft: Laid, values: Collection[int]) -> bool:
    """Whether a draft swaps any of some values."""
    return bool(values) and any(swap.value in values for swap in draft.swaps)


def _measures(draft: Laid) -> Measures:
    timeline, device_bytes = draft.timeline, draft.timeline.device_bytes
    placed_bytes = device_bytes + draft.fragmented_bytes
    return device_bytes, placed_bytes, timeline.host_bytes, timeline.seconds


def _is_covered(mine: Measures, other: Measures) -> bool:
    """Whether another draft is at least as good in every respect."""
    return (  # Asked so often that a loop would be too slow.
        other[0] <= mine[0]
        and other[1] <= mine[1]
        and other[2] <= mine[2]
        and other[3] <= mine[3]
    )
