"""Where the arrays of a program lie on a mesh of devices.

A `Spec` names, for each dimension of an array, the mesh axes over which it is split;
an axis that it does not name holds copies. `Placement` holds the mesh and the specs of
what a function is given. No JAX here: plans are made, saved and read with these.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

Spec = tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh, and how a function's operands are split over it.

    Attributes:
        axes: Name and size of each mesh axis.
        explicit: The axes along which shardings are part of types.
        operands: The spec of each array that the function is given.
    """

    axes: tuple[tuple[str, int], ...]
    explicit: tuple[str, ...]
    operands: tuple[Spec, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each mesh axis."""
        return dict(self.axes)

    @property
    def device_count(self) -> int:
        """Devices of the mesh."""
        return math.prod(self.sizes.values())

    def shards(self, names: Iterable[str]) -> int:
        """Into how many parts something is split along mesh axes."""
        return math.prod(self.sizes[name] for name in names)

    def fitting(self, shape: Sequence[int], wanted: Sequence[Sequence[str]]) -> Spec:
        """The spec nearest to what is wanted that an array of this shape can have.

        An axis can split one dimension only, and only into equal parts.
        """
        used: set[str] = set()
        spec = []
        for size, names in zip(shape, wanted, strict=True):
            free = tuple(name for name in names if name not in used)
            if not free or size == 0 or size % self.shards(free):
                spec.append(())
            else:
                spec.append(free)
                used.update(free)
        return tuple(spec)


def axes_of(spec: Spec) -> tuple[str, ...]:
    """The mesh axes that split an array, in the order of its dimensions."""
    return tuple(name for names in spec for name in names)
