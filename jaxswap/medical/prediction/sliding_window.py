"""Prediction of a volume window by window, as models trained on patches need it.

This is how nnU-Net predicts, so it is a fair comparison for whole volumes: windows
overlap by half, are weighted by a gaussian around their centre, and are also predicted
mirrored.

References:
    Isensee et al. 2021, nnU-Net: a self-configuring method for deep learning-based
    biomedical image segmentation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, islice, product
from typing import Any

import numpy as np

Start = tuple[int, int, int]

_SIGMA_SHARE = 1 / 8  # Of the window's side.
# Without this, a corner far from the centre would have weight 0. A voxel that only this
# corner covers would be divided by 0.
_LEAST_WEIGHT = 1e-6
_ROUNDING = 1e-9  # A whole number of steps stays one.


def predict_windows(
    apply: Callable[[np.ndarray], Any],
    image: np.ndarray,
    window: Sequence[int],
    overlap: float = 0.5,
    mirror_axes: Sequence[int] = (0, 1, 2),
    batch: int = 1,
) -> np.ndarray:
    """Predict a volume from overlapping windows of it.

    Each window is predicted once for every combination of mirrored axes. These
    predictions are mirrored back and averaged. Then windows are averaged where they
    overlap, weighted by a gaussian. The averaged numbers are the results of `apply`:
    logits if it returns logits (as in nnU-Net), probabilities if it ends in a sigmoid
    or softmax.

    Means are kept in float32 in host memory. The device holds one batch of windows, and
    a second one while the first is collected. All batches have one shape, so `apply` is
    compiled once. A volume smaller than the window is padded with zeros on both sides.

    Args:
        apply: Network, usually jitted: float32 `(batch, *window, channel)` to any
            float type `(batch, *window, class)`.
        image: The volume, (x, y, z, channel).
        window: Voxels along each axis.
        overlap: Least share of a window that the next one covers, too.
        mirror_axes: Axes of 0, 1, 2 to mirror along. Empty: predict each window once.
        batch: Windows that are predicted at once.

    Returns:
        Scores, float32, (x, y, z, class).

    Raises:
        ValueError: If an argument is out of range, or `apply` returns another shape.

    Example:
        >>> image = np.ones((10, 9, 3, 1), np.float32)
        >>> scores = predict_windows(lambda x: x * 2, image, (4, 4, 4))
        >>> scores.shape, scores.min(), scores.max()
        ((10, 9, 3, 1), np.float32(2.0), np.float32(2.0))
    """
    window = _check(image, window, overlap, mirror_axes, batch)
    padded, inside = _pad(np.asarray(image, np.float32), window)
    means = _Means(padded.shape[:3], gaussian_importance(window))
    starts = window_starts(padded.shape[:3], window, overlap)
    flips = mirrorings(mirror_axes)
    windows = (
        (start, flip, np.flip(padded[_at(start, window)], flip))
        for start in starts
        for flip in flips
    )
    # The next batch is started before the last one is fetched. So the device works
    # while the host adds up.
    waiting: list[tuple[list[tuple[Start, tuple[int, ...]]], Any]] = []
    while chunk := list(islice(windows, batch)):
        images = [data for _, _, data in chunk]
        images += [images[-1]] * (batch - len(images))
        scores = apply(np.ascontiguousarray(np.stack(images)))
        waiting.append(([(start, flip) for start, flip, _ in chunk], scores))
        if len(waiting) == 2:
            means.add(*waiting.pop(0), len(flips))
    for part in waiting:
        means.add(*part, len(flips))
    return np.moveaxis(means.result()[(slice(None), *inside)], 0, -1)


def window_starts(
    shape: Sequence[int], window: Sequence[int], overlap: float
) -> list[Start]:
    """List where windows begin: as few as the overlap allows, evenly spread.

    Args:
        shape: Voxels of the volume along each axis, not fewer than the window's.
        window: Voxels of a window.
        overlap: Least share of a window that the next one covers, too.

    Returns:
        First voxel of each window.

    Example:
        >>> len(window_starts((192, 192, 192), (128, 128, 128), 0.5))
        8
    """
    along = []
    for length, size in zip(shape, window, strict=True):
        step = max(size * (1 - overlap), 1)
        count = 1 + math.ceil((length - size) / step - _ROUNDING)
        along.append([round(start) for start in np.linspace(0, length - size, count)])
    return list(product(*along))


def gaussian_importance(window: Sequence[int]) -> np.ndarray:
    """Compute the weight of each voxel of a window.

    Args:
        window: Voxels along each axis.

    Returns:
        Weights, float32, of the shape of the window: a gaussian around its centre with
        a standard deviation of an eighth of each side, at most 1 and never 0.
    """
    weights = np.ones((), np.float64)
    for size in window:
        offset = np.arange(size) - (size - 1) / 2
        along = np.exp(-0.5 * np.square(offset / (size * _SIGMA_SHARE)))
        weights = weights[..., None] * along
    return np.maximum(weights, _LEAST_WEIGHT).astype(np.float32)


def mirrorings(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """List the axes to mirror along in each prediction of a mean, none first.

    Args:
        axes: The axes that may be mirrored.

    Example:
        >>> mirrorings((0, 2))
        [(), (0,), (2,), (0, 2)]
    """
    counts = range(len(axes) + 1)
    return [subset for count in counts for subset in combinations(axes, count)]


class _Means:
    """Weighted means of overlapping windows, class first.

    Each new value moves the mean by its share of the weight so far. If all windows
    agree, the mean is exactly their value. A sum that is divided at the end would not
    give this.
    """

    def __init__(self, shape: tuple[int, ...], weights: np.ndarray) -> None:
        self._weights = weights
        self._total = np.zeros(shape, np.float32)
        self._means = np.zeros((0, *shape), np.float32)
        self._window: np.ndarray | None = None  # Mean over mirrorings so far.
        self._seen = 0

    def add(
        self, places: Sequence[tuple[Start, tuple[int, ...]]], scores: Any, flips: int
    ) -> None:
        """Add a batch of predictions."""
        window = self._weights.shape
        scores = np.asarray(scores, np.float32)  # Waits for the device.
        if scores.ndim != 5 or scores.shape[1:4] != window:
            raise ValueError(
                f"`apply` returned shape {scores.shape} for windows of {window}; it "
                "needs to be (batch, *window, class)."
            )
        if not len(self._means):
            self._means = np.zeros((scores.shape[4], *self._total.shape), np.float32)
        for (start, flip), score in zip(places, scores, strict=False):
            self._add_mirrored(np.flip(score, flip))
            if self._seen == flips:
                self._finish(_at(start, window))

    def result(self) -> np.ndarray:
        """Return the means, float32, (class, x, y, z)."""
        return self._means

    def _add_mirrored(self, score: np.ndarray) -> None:
        self._seen += 1
        if self._window is None:
            self._window = np.array(score)
            return
        change = score - self._window
        change *= np.float32(1 / self._seen)
        self._window += change

    def _finish(self, place: tuple[slice, ...]) -> None:
        assert self._window is not None
        self._total[place] += self._weights
        share = self._weights / self._total[place]
        for index in range(len(self._means)):
            mean = self._means[index][place]
            mean += (self._window[..., index] - mean) * share
        self._window, self._seen = None, 0


def _check(
    image: np.ndarray,
    window: Sequence[int],
    overlap: float,
    mirror_axes: Sequence[int],
    batch: int,
) -> tuple[int, int, int]:
    if image.ndim != 4 or 0 in image.shape:
        raise ValueError(f"`image` has shape {image.shape}, not (x, y, z, channel).")
    if len(window) != 3 or any(size < 1 or size != int(size) for size in window):
        raise ValueError(
            f"`window` is {tuple(window)}; it needs three positive numbers."
        )
    if not 0 <= overlap < 1:
        raise ValueError(f"`overlap` is {overlap}; it needs to be in 0..1, below 1.")
    axes = list(mirror_axes)
    if len(set(axes)) < len(axes) or not set(axes) <= {0, 1, 2}:
        raise ValueError(f"`mirror_axes` is {tuple(axes)}; choose of 0, 1 and 2.")
    if batch < 1:
        raise ValueError(f"`batch` is {batch}; it needs to be 1 or more.")
    x, y, z = (int(size) for size in window)
    return x, y, z


def _pad(
    image: np.ndarray, window: tuple[int, int, int]
) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Pad to at least the window. Also return where the image is in the result."""
    missing = [max(n - m, 0) for n, m in zip(window, image.shape, strict=False)]
    before = [total // 2 for total in missing]
    widths = [(low, total - low) for low, total in zip(before, missing, strict=True)]
    inside = tuple(
        slice(low, low + length)
        for low, length in zip(before, image.shape, strict=False)
    )
    return np.pad(image, (*widths, (0, 0))), inside


def _at(start: Start, window: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(start, window, strict=True))
