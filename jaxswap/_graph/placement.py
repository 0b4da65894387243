"""Where the arrays of a program lie on a mesh of devices.

A `Spec` names, for each dimension of an array, the mesh axes over which the dimension
is split. Along all other mesh axes the devices hold copies. A `Placement` holds the
mesh and the specs of a function's operands. No JAX is needed to make, save or read
plans with them.
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
        explicit: The axes along which shardings are part of array types.
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
        """Return the number of parts that a split along mesh axes makes."""
        return math.prod(self.sizes[name] for name in names)

    def fitting(self, shape: Sequence[int], wanted: Sequence[Sequence[str]]) -> Spec:
        """Return the spec nearest to the wanted one that a shape allows.

        An axis can split only one dimension, and only into equal parts.
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
