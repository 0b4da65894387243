"""How many devices split the batch and each axis of space: `data=2,depth=4`.

Volumes are (batch, x, y, z, channel). `data` splits the batch, `depth` the x axis and
`height` the y axis. z is contiguous in memory and stays whole.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxswap.medical.data.grid import Shape

_EXAMPLE = "such as data=2,depth=4"


@dataclass(frozen=True)
class MeshShape:
    """Devices along each axis of a mesh.

    Attributes:
        data: Parts of the batch.
        depth: Parts of the x axis of a volume.
        height: Parts of its y axis.

    Raises:
        ValueError: If one of them is less than 1.

    Example:
        >>> str(MeshShape(data=2, depth=4)), MeshShape(data=2, depth=4).device_count
        ('data=2,depth=4', 8)
    """

    data: int = 1
    depth: int = 1
    height: int = 1

    def __post_init__(self) -> None:
        for name, count in dataclasses.asdict(self).items():
            if count < 1:
                raise ValueError(f"`mesh` has {name}={count}, not 1 or more.")

    @property
    def device_count(self) -> int:
        """Devices of the mesh."""
        return self.data * self.depth * self.height

    @property
    def parts(self) -> int:
        """Parts of each volume."""
        return self.depth * self.height

    @property
    def axes(self) -> dict[str, int]:
        """The axes that split something, and their sizes. `data` if none does."""
        sizes = dataclasses.asdict(self)
        return {k: n for k, n in sizes.items() if n > 1} or {"data": 1}

    def __str__(self) -> str:
        """Return the form that `parse_mesh` reads."""
        return ",".join(f"{name}={count}" for name, count in self.axes.items())

    def check_batch(self, batch: int) -> None:
        """Raise ValueError if a batch cannot be split into equal parts."""
        if batch % self.data:
            fits = -(-batch // self.data) * self.data
            raise ValueError(
                f"`batch` is {batch}, which data={self.data} of `mesh` does not "
                f"divide; give a multiple of {self.data}, such as --set batch={fits}."
            )

    def check_volume(self, shape: Shape, multiple: int, setting: str) -> None:
        """Raise ValueError if a volume cannot be split into parts that halve.

        Args:
            shape: Voxels that the network sees.
            multiple: The network needs each side of a part divisible by this.
            setting: Name of the setting that the shape comes from, "shape" or "patch".
        """
        needed = (multiple * self.depth, multiple * self.height, multiple)
        x, y, z = (-(-n // unit) * unit for n, unit in zip(shape, needed, strict=True))
        fitting = f"[{x}, {y}, {z}]"
        if setting == "patch":
            unit = multiple * math.lcm(self.depth, self.height)
            fitting = str(-(-max(shape) // unit) * unit)
        names = ("depth", "height")
        for name, axis, side, unit in zip(names, "xy", shape, needed, strict=False):
            if side % unit:
                raise ValueError(
                    f"the network sees {side} voxels along {axis}, but "
                    f"{name}={getattr(self, name)} of `mesh` and a network that needs "
                    f"a multiple of {multiple} on each device need a multiple of "
                    f"{unit}: --set {setting}='{fitting}' fits."
                )


def parse_mesh(value: Any) -> MeshShape | None:
    """Read a mesh from a command line or a configuration file.

    Args:
        value: Text such as "data=2,depth=4", a mapping from axes to numbers, or None.

    Returns:
        The mesh. None for None.

    Raises:
        ValueError: If it is none of these, or if an axis is unknown.

    Example:
        >>> parse_mesh("depth=4,data=2") == parse_mesh({"data": 2, "depth": 4})
        True
    """
    if value is None or isinstance(value, MeshShape):
        return value
    pairs = _pairs(value)
    known = [field.name for field in dataclasses.fields(MeshShape)]
    sizes: dict[str, int] = {}
    for name, count in pairs:
        if name not in known:
            raise ValueError(
                f"`mesh` has the axis {name!r}; choose from {', '.join(known)}."
            )
        if name in sizes:
            raise ValueError(f"`mesh` has the axis {name!r} twice.")
        if isinstance(count, bool) or not str(count).strip().isdecimal():
            raise ValueError(
                f"`mesh` has {name}={count}, which is no number of devices."
            )
        sizes[name] = int(count)
    return MeshShape(**sizes)


def _pairs(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        pairs = [(str(name), count) for name, count in value.items()]
    elif isinstance(value, str):
        split = [part.partition("=") for part in value.split(",")]
        if not all(separator for _, separator, _ in split):
            raise ValueError(f"`mesh` is {value!r}; give axes and sizes, {_EXAMPLE}.")
        pairs = [(name.strip(), count.strip()) for name, _, count in split]
    else:
        raise ValueError(f"`mesh` is {value!r}; give axes and sizes, {_EXAMPLE}.")
    if not pairs:
        raise ValueError(f"`mesh` is empty; give axes and sizes, {_EXAMPLE}.")
    return pairs
