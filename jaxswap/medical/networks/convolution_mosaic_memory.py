"""What kernels in Pallas for Mosaic have in common: copies into shared memory."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

ALIGNED = 8
"""Voxels that tensor cores read together."""
ROW = 64
"""Voxels that tensor cores multiply at once."""
HELD = 4
"""Planes in shared memory."""
MOST_PLANES = 32
"""Of a tile."""
FEW = 512
"""With fewer programs, some cores of a large GPU would have none."""


def fetch_plane(
    space: tuple[int, int, int],
    first: tuple[Any, Any],
    of_row: tuple[Any, ...],
    x_ref: Any,
    held: Any,
    arrived: Any,
    plane: Any,
) -> None:
    """Start to copy a plane of a tile and the rows on either side of it.

    The copy engine fills in zeros after the volume. So planes and rows before it are
    read there, and no coordinate is negative.

    Args:
        space: Depth, height and width of the volume.
        first: The first plane and row of the tile.
        of_row: Which voxels of each row, and which of their channels. A multiple of
            those that are read together comes first.
        x_ref: The volume.
        held: Shared memory for `HELD` planes.
        arrived: For each of them, a barrier where each row arrives.
        plane: Which plane, counted from the one before the tile.
    """
    depth, height, _ = space
    slot = plane % HELD if isinstance(plane, int) else lax.rem(plane, HELD)
    z = first[0] + plane - 1
    z = jnp.where(z < 0, depth, z)
    for row in range(held.shape[1]):
        y = first[1] + row - 1
        y = jnp.where(y < 0, height, y)
        mosaic_gpu().copy_gmem_to_smem(
            x_ref.at[z, y, *of_row], held.at[slot, row], arrived.at[slot]
        )


def swizzled(shape: tuple[int, ...], width: int, dtype: Any) -> Any:
    """Describe shared memory as tensor cores read it without conflicts.

    Args:
        shape: Of the array, whose rows are of some numbers that are read together.
        width: How many numbers that are.
        dtype: Of 16 bits.
    """
    mosaic = mosaic_gpu()
    transforms = (
        mosaic.TilingTransform((ALIGNED, width)),
        mosaic.SwizzleTransform(2 * width),
    )
    return mosaic.SMEM(shape, dtype, transforms=transforms)


def mosaic_gpu() -> Any:
    """Import what has no place in other versions of JAX."""
    from jax.experimental.pallas import mosaic_gpu

    return mosaic_gpu
