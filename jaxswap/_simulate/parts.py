"""Which results can be written, part by part, over what they are computed from.

Results that a kernel computes element by element follow from the same elements of
*leaves*: buffers and arguments of the result's shape, and smaller values, which are
read whole. What lies between them exists for one part at a time.
"""

from collections.abc import Mapping, Sequence

from jaxswap._graph.graph import Equation, Graph


class Parts:
    """Follows values while kernels are made.

    Attributes:
        content: The buffer that each value is all of: one that a kernel made, or that a
            view or a barrier hands on.
    """

    def __init__(self, graph: Graph) -> None:
        self.content: dict[int, int] = {}
        self._values = graph.values
        self._leaves: dict[int, frozenset[int] | None] = {}

    def make(self, v: int, buffer: int) -> None:
        """Note that a buffer holds a value."""
        self._leaves[v] = frozenset((v,))
        self.content[v] = buffer

    def fuse(self, v: int, leaves: frozenset[int] | None) -> None:
        """Note that a value is computed where it is read."""
        self._leaves[v] = leaves
        self.content.pop(v, None)

    def rename(self, v: int, source: int, leaves: frozenset[int] | None) -> None:
        """Note that a value is a view of another one: of all, if types are equal."""
        if self._has_type_of(v, source) and source in self.content:
            self.make(v, self.content[source])
        else:
            self.fuse(v, leaves)

    def leaves_of(
        self,
        eqn: Equation,
        roots: Mapping[int, frozenset[int]],
        value_of: Sequence[int],
    ) -> frozenset[int] | None:
        """Return the leaves of an equation's result. `None` if parts do not suffice.

        Args:
            eqn: The equation.
            roots: The buffers that each value is made of.
            value_of: The value of each buffer.
        """
        if not eqn.is_in_parts:
            return None
        values, found = self._values, frozenset[int]()
        made = values[eqn.outputs[0]]
        for v in eqn.inputs:
            leaves = self._leaves.get(v)
            if values[v].shape != made.shape:
                # A piece of what would be written over cannot be read later.
                above = (values[value_of[b]].nbytes for b in roots.get(v, ()))
                is_piece = any(nbytes >= made.nbytes for nbytes in above)
                leaves = None if is_piece else frozenset((v,))
            if leaves is None:
                return None
            found |= leaves
        return found

    def replaceable(
        self,
        eqn: Equation,
        buffers: Mapping[int, int],
        leaves: frozenset[int] | None,
    ) -> dict[int, tuple[int, ...]]:
        """Return the buffers whose place an equation's result may take.

        Args:
            eqn: The equation.
            buffers: The buffers that it reads, and their values.
            leaves: The leaves of its result.

        Returns:
            The buffers of the result's type, each with its names among the leaves.
        """
        if leaves is None:
            return {}
        return {
            b: tuple(u for u in sorted(leaves) if self.content.get(u) == b) or (v,)
            for b, v in buffers.items()
            if self.content.get(v) == b and self._has_type_of(v, eqn.outputs[0])
        }

    def _has_type_of(self, v: int, other: int) -> bool:
        one, another = self._values[v], self._values[other]
        return (one.shape, one.dtype) == (another.shape, another.dtype)
