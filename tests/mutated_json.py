"""JSON with one place changed, as a person or a damaged disk leaves it."""

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
)
VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


def mutated(content: Any) -> st.SearchStrategy[Any]:
    """Return contents that differ from the given one in one place."""

    @st.composite
    def change(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
        made = copy.deepcopy(content)
        place = made
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from(list(keys)))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
                break
            place = inner
        if draw(st.integers(0, 4)) == 0:
            del place[key]
        elif isinstance(inner, str) and inner and draw(st.booleans()):
            at = draw(st.integers(0, len(inner) - 1))
            place[key] = inner[:at] + draw(st.sampled_from(inner)) + inner[at + 1 :]
        else:
            place[key] = draw(VALUES)
        return made

    return change()
