"""Choosing cases and positions for training, by the number of an example.

Example `k` is the same in every run with the same seed, whatever came before it. So
training continues from any step exactly as without an interruption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor

import numpy as np

from jaxswap.medical.data.grid import Shape

_MOST_VOXELS_OF_A_LABEL = 10_000

Bounds = tuple[int, int]

# The purposes of a draw, so that draws for different purposes are independent.
_ORDER, _PLACE, _FOREGROUND = 0, 1, 2


@dataclass(frozen=True)
class Part:
    """The part of a batch (batch, x, y, z, channel) that one process needs.

    Attributes:
        cases: The first case, and the one after the last.
        x: The same for voxels along x.
        y: The same for voxels along y.
    """

    cases: Bounds
    x: Bounds
    y: Bounds

    def of(self, start: Shape, shape: Shape) -> tuple[Shape, Shape]:
        """Return first voxel and size of this part of the box at `start` of `shape`."""
        (x0, x1), (y0, y1) = self.x, self.y
        first = (start[0] + x0, start[1] + y0, start[2])
        return first, (x1 - x0, y1 - y0, shape[2])


@dataclass(frozen=True, eq=False)
class Foreground:
    """Some voxels of each label of a case, to place patches on.

    Attributes:
        voxels: Indices by label value, int32, (voxel, 3).
        weights: How often each label is drawn, beside the others. Empty draws all that
            are there equally often.
    """

    voxels: dict[int, np.ndarray]
    weights: Mapping[int, float] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> np.ndarray | None:
        """Draw a label and one of its voxels. None if there is no label."""
        values = sorted(self.voxels)
        if not values:
            return None
        place = int(rng.integers(len(values)))
        if self.weights:
            ends = np.cumsum([self.weights.get(value, 1.0) for value in values])
            if not ends[-1]:
                return None
            place = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
        voxels = self.voxels[values[place]]
        return voxels[int(rng.integers(len(voxels)))]


def find_foreground(
    labels: np.ndarray, seed: int = 0, weights: Mapping[int, float] | None = None
) -> Foreground:
    """Draw enough voxels of every label to have some variety.

    Args:
        labels: Labels, uint8, (x, y, z).
        seed: Seed of the draw.
        weights: See `Foreground`.

    Returns:
        At most 10 000 voxels of each label except background.
    """
    flat = np.asarray(labels).ravel()
    where = np.flatnonzero(flat)
    values = flat[where]
    rng = np.random.default_rng((_FOREGROUND, seed))
    voxels = {}
    for value in np.unique(values).tolist():
        of_value = where[values == value]
        if len(of_value) > _MOST_VOXELS_OF_A_LABEL:
            of_value = rng.choice(of_value, _MOST_VOXELS_OF_A_LABEL, replace=False)
        indices = np.unravel_index(of_value, labels.shape)
        voxels[int(value)] = np.stack(indices, axis=-1).astype(np.int32)
    return Foreground(voxels, weights or {})


def choose_case(example: int, cases: int, seed: int) -> int:
    """Choose the case of an example. Each comes once in every `cases` examples.

    Args:
        example: Number of the example, from 0.
        cases: Number of cases.
        seed: Seed of the order, which differs in every round.

    Returns:
        Position of the case.
    """
    turn, position = divmod(example, cases)
    return int(np.random.default_rng((_ORDER, seed, turn)).permutation(cases)[position])


def wants_foreground(example: int, share: float) -> bool:
    """Whether an example must contain a label, so that `share` of all examples do.

    These examples are spread evenly. With a share of a third, every third example has
    a label, at any batch size.

    Example:
        >>> [wants_foreground(k, 1 / 3) for k in range(6)]
        [False, False, True, False, False, True]
    """
    # A third of 3 is 0.9999... in floating point. It must count as 1.
    slack = 1e-9
    return floor((example + 1) * share + slack) > floor(example * share + slack)


def choose_start(
    example: int,
    shape: Sequence[int],
    patch: Shape,
    seed: int,
    foreground: Foreground | None,
) -> Shape:
    """Choose where the patch of an example begins.

    Args:
        example: Number of the example, from 0.
        shape: Voxels of the case.
        patch: Voxels of the patch.
        seed: Seed of the choice.
        foreground: The patch must contain one of these voxels. None for anywhere.

    Returns:
        The first voxel of the patch. If the case is smaller than the patch along an
        axis, it is negative there, and the case is in the middle of the patch.
    """
    rng = np.random.default_rng((_PLACE, seed, example))
    room = np.array(shape) - np.array(patch)
    start = rng.integers(0, np.maximum(room, 0), endpoint=True)
    voxel = None if foreground is None else foreground.draw(rng)
    if voxel is not None:
        start = np.clip(voxel - np.array(patch) // 2, 0, np.maximum(room, 0))
    start = np.where(room < 0, -(-room // 2), start)
    x, y, z = (int(first) for first in start)
    return x, y, z


def cut(array: np.ndarray, start: Shape, patch: Shape) -> np.ndarray:
    """Cut a patch. Whatever is outside of the array is 0.

    Args:
        array: (x, y, z, ...).
        start: First voxel. Negative if the patch begins before the array.
        patch: Voxels of the patch.

    Returns:
        The patch, `(*patch, ...)`, same dtype.
    """
    inside, outside = [], []
    for first, size, length in zip(start, patch, array.shape[:3], strict=True):
        begin = min(max(first, 0), length)
        end = max(begin, min(first + size, length))
        inside.append(slice(begin, end))
        outside.append(slice(begin - first, end - first))
    patched = np.zeros((*patch, *array.shape[3:]), array.dtype)
    patched[tuple(outside)] = array[tuple(inside)]
    return patched


def padded(array: np.ndarray, shape: Shape) -> tuple[np.ndarray, Shape]:
    """Put an array into the middle of a larger one of zeros.

    Args:
        array: (x, y, z, ...).
        shape: Voxels of the result, along no axis fewer than the array's.

    Returns:
        The larger array and where the smaller one starts in it.
    """
    # No voxel is drawn, because there is only one possible position.
    start = choose_start(0, array.shape[:3], shape, 0, None)
    x, y, z = (-first for first in start)
    return cut(array, start, shape), (x, y, z)
