"""A draft of whole values -> the search for drafts that store some in pieces.

Every large value that the draft stores can be cut, and each piece is then a candidate
of its own. As long as a value is stored whole, its pieces cost nothing. So the search
starts at the draft itself. See `_graph.pieces`.
"""

from collections.abc import Callable, Sequence

from jaxswap._graph.graph import Action
from jaxswap._graph.pieces import Pieces, axis_of
from jaxswap._schedule.entries import stored_values
from jaxswap._search.limits import Limits
from jaxswap._search.search import Search
from jaxswap._search.trial import trial_of
from jaxswap._simulate.draft import Draft

MakeSearch = Callable[[Search, Sequence[Pieces]], Search]
"""Returns the search for plans of a program whose values can be stored in pieces."""


class InPieces:
    """Makes programs in which values can be stored in pieces.

    Args:
        count: Into how many pieces values are cut.
        cut: Makes the program.
    """

    def __init__(self, count: int, cut: MakeSearch) -> None:
        self._count = count
        self._cut = cut
        self._made: dict[tuple[Search, tuple[Pieces, ...]], Search] = {}

    def search(self, whole: Search, draft: Draft, limits: Limits) -> Search | None:
        """Return the search that starts at a draft, with its values cut.

        Args:
            whole: The search that has found the draft.
            draft: A draft of whole values.
            limits: What it was found for.

        Returns:
            The search. `None` if the draft stores nothing that can be cut.
        """
        pieces = worth_cutting(whole, draft, self._count)
        if not pieces:
            return None
        if (whole, pieces) not in self._made:
            self._made[whole, pieces] = self._cut(whole, pieces)
        search = self._made[whole, pieces]
        options = {"hold_for": draft.hold_for, "in_place": draft.in_place_bytes > 0}
        actions = (*draft.actions, *_halves(pieces))
        again = search.arranger.arrange(actions, limits.device_bytes, **options)
        search.front.offer(trial_of(again))
        return search


def worth_cutting(search: Search, draft: Draft, count: int) -> tuple[Pieces, ...]:
    """Return how the large values are cut that a draft stores for its backward pass."""
    values, arranger = draft.graph.values, search.arranger
    stored = stored_values(draft.graph, draft.actions, draft.graph.residuals())
    candidates = {*search.candidates.forward} - {*draft.graph.outputs}
    axes = {
        v: axis_of(values[v].shape, count)
        for v in stored
        if v in candidates and values[v].nbytes >= arranger.in_place_bytes
    }
    return tuple(Pieces(v, axis, count) for v, axis in axes.items() if axis is not None)


def _halves(pieces: Sequence[Pieces]) -> list[Action]:
    """Return the actions of the pieces to begin with, once their value is cut."""
    return [
        Action.KEEP if at < one.count // 2 else Action.OFFLOAD
        for one in pieces
        for at in range(one.count)
    ]
