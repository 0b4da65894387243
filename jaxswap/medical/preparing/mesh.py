"""The device mesh of a run: how its batches and its state are distributed.

Parameters, optimizer state and average are on every device. A batch is split as
`MeshShape` says. XLA's partitioner exchanges the halos of convolutions, and adds up the
sums over the batch and over space. With several processes, each one reads and holds the
part of a batch that its own devices need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxswap.medical.preparing.mesh_shape import MeshShape
from jaxswap.medical.preparing.patches import Part

_MIB = 2**20
_BATCH_AXES = ("data", "depth", "height")  # Of a batch's dimensions, in order.


@dataclass(frozen=True)
class RunMesh:
    """The devices of a run.

    Attributes:
        shape: Devices along each axis.
        mesh: The same for JAX, without axes that split nothing.
    """

    shape: MeshShape
    mesh: Mesh

    @property
    def replicated(self) -> NamedSharding:
        """Sharding with everything on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def split(self) -> NamedSharding:
        """Sharding of images or labels, (batch, x, y, ...), over all axes."""
        return NamedSharding(self.mesh, PartitionSpec(*self._names(_BATCH_AXES)))

    @property
    def split_cases(self) -> NamedSharding:
        """Sharding with whole cases on each device that has a part of them."""
        return NamedSharding(self.mesh, PartitionSpec(*self._names(_BATCH_AXES[:1])))

    def part(self, shape: Sequence[int]) -> Part:
        """Return the part of a batch that the devices of this process need.

        Args:
            shape: Shape of the whole batch, (batch, x, y, ...).

        Returns:
            First and last of the cases, and of the voxels along x and along y.
        """
        shape = tuple(shape)
        found = self.split.addressable_devices_indices_map(shape).values()
        bounds = [
            [s.indices(n) for s, n in zip(index or (), shape, strict=False)]
            for index in found
        ]
        first, last = np.array(bounds)[..., 0].min(0), np.array(bounds)[..., 1].max(0)
        cases, x, y = (
            (int(a), int(b)) for a, b in zip(first[:3], last[:3], strict=True)
        )
        return Part(cases, x, y)

    def place_batch(self, local: np.ndarray, shape: Sequence[int]) -> Array:
        """Put a batch on its devices.

        Args:
            local: The `part` of it that this process needs.
            shape: Shape of the whole batch, (batch, x, y, ...).

        Returns:
            The batch, with the sharding `split`.
        """
        part = self.part(shape)
        first = (part.cases[0], part.x[0], part.y[0])

        def piece(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            bounds = zip(index[:3], shape, first, strict=False)
            ends = [(*s.indices(n)[:2], start) for s, n, start in bounds]
            return local[tuple(slice(a - start, b - start) for a, b, start in ends)]

        return jax.make_array_from_callback(tuple(shape), self.split, piece)

    def describe(self, images: jax.ShapeDtypeStruct, state_bytes: int) -> str:
        """Write a line about the devices and what each of them holds.

        Args:
            images: Type of a batch of images, (batch, x, y, z, channel).
            state_bytes: Bytes of parameters and everything else on every device.
        """
        sides = self.split.shard_shape(images.shape)
        image_bytes = math.prod(sides) * images.dtype.itemsize
        count, kind = self.mesh.size, self.mesh.devices.flat[0].device_kind
        of_all = f" of {n}" if count < (n := len(jax.devices())) else ""
        processes = f" in {n} processes" if (n := jax.process_count()) > 1 else ""
        voxels = " x ".join(map(str, sides[1:4]))
        return (
            f"Mesh {self.shape}: {count}{of_all} devices ({kind}){processes}; each "
            f"holds {voxels} voxels of {sides[0]} of {images.shape[0]} volumes of a "
            f"batch ({image_bytes / _MIB:.1f} MiB) and the state "
            f"({state_bytes / _MIB:.1f} MiB)."
        )

    def replicate(self, tree: Any) -> Any:
        """Put arrays that every process has on every device, also in host memory."""
        return jax.tree.map(self._replicated, tree)

    def replicated_like(self, array: Array) -> NamedSharding:
        """Return `replicated`, in the memory kind of an array."""
        kind = array.sharding.memory_kind
        is_on_host = kind == "pinned_host"
        return self.replicated.with_memory_kind(kind) if is_on_host else self.replicated

    def _replicated(self, array: Array) -> Array:
        return place_replicated(np.asarray(array), self.replicated_like(array))

    def _names(self, axes: Sequence[str]) -> list[str | None]:
        return [name if name in self.mesh.axis_names else None for name in axes]


def place_replicated(array: np.ndarray, sharding: NamedSharding) -> Array:
    """Put an array that every process has on the devices of all of them."""
    # Unlike `device_put`, this does not compare the array between the processes.
    return jax.make_array_from_callback(
        array.shape, sharding, lambda index: array[index]
    )


def make_run_mesh(shape: MeshShape | None) -> RunMesh | None:
    """Make the mesh of a run on the devices of all processes.

    Args:
        shape: Devices along each axis. None: one process runs on one device, several
            processes split the batch over all devices.

    Returns:
        The mesh. None for one device.

    Raises:
        ValueError: If there are not enough devices, or too many for several processes.
    """
    devices = jax.devices()
    if shape is None and jax.process_count() == 1:
        return None
    shape = shape or MeshShape(data=len(devices))
    count = shape.device_count
    if count > len(devices):
        raise ValueError(
            f"`mesh` is {shape}: {count} devices, but there are {len(devices)}."
        )
    if count < len(devices) and jax.process_count() > 1:
        raise ValueError(
            f"`mesh` is {shape}: {count} devices, but {jax.process_count()} processes "
            f"have {len(devices)}; all of them need to take part."
        )
    names, sizes = tuple(shape.axes), tuple(shape.axes.values())
    types = (AxisType.Auto,) * len(names)
    mesh = jax.make_mesh(sizes, names, axis_types=types, devices=devices[:count])
    return RunMesh(shape, mesh)
