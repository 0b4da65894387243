"""Labels of prepared volumes by a trained network: whole, or window by window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxswap.medical.data.grid import Shape
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.networks.objective import labels_of, probabilities_of
from jaxswap.medical.prediction.sliding_window import predict_windows
from jaxswap.medical.preparing.patches import padded

MIRROR_AXES = (0, 1, 2)


class Predictor:
    """Predicts volumes with one compiled program.

    Attributes:
        network: The network.
        label_map: What labels mean.
        shape: Voxels that the network sees at a time.
        is_whole: Whether it sees a whole padded volume. If not, it sees a window.
        mirror_axes: Axes along which windows are mirrored and averaged.
    """

    def __init__(
        self,
        network: nn.Module,
        label_map: LabelMap,
        shape: Shape,
        *,
        is_whole: bool,
        mirror_axes: tuple[int, ...] = MIRROR_AXES,
    ) -> None:
        self.network = network
        self.label_map = label_map
        self.shape = shape
        self.is_whole = is_whole
        self.mirror_axes = mirror_axes
        self._probabilities = jax.jit(self._probabilities_of)

    def probabilities(self, parameters: Any, image: np.ndarray) -> np.ndarray:
        """Compute the probability of each region.

        Args:
            parameters: Parameters of the network.
            image: Prepared image, (x, y, z, channel).

        Returns:
            Probabilities, float32, (x, y, z, region).

        Raises:
            ValueError: If a whole volume is larger than `shape`.
        """
        if not self.is_whole:
            return predict_windows(
                self._applied(parameters), image, self.shape, 0.5, self.mirror_axes
            )
        sides = image.shape[:3]
        if any(a > b for a, b in zip(sides, self.shape, strict=True)):
            raise ValueError(
                f"the volume has {sides} voxels, more than the {self.shape} that the "
                "network was trained to see whole; predict with windows, or give a "
                "larger `shape`."
            )
        whole, start = padded(np.asarray(image, np.float32), self.shape)
        found = np.asarray(self._applied(parameters)(whole[None])[0], np.float32)
        inside = tuple(slice(s, s + n) for s, n in zip(start, sides, strict=True))
        return found[inside]

    def labels(self, parameters: Any, image: np.ndarray) -> np.ndarray:
        """Compute the label of each voxel, uint8, (x, y, z). See `probabilities`."""
        found = self.probabilities(parameters, image)
        return np.asarray(labels_of(jnp.asarray(found), self.label_map))

    def _applied(self, parameters: Any) -> Callable[[np.ndarray], Any]:
        return lambda images: self._probabilities(parameters, jnp.asarray(images))

    def _probabilities_of(self, parameters: Any, images: jax.Array) -> jax.Array:
        logits: Any = self.network.apply(parameters, images)
        return probabilities_of(logits, self.label_map)


def dice_by_region(
    predicted: np.ndarray, truth: np.ndarray, label_map: LabelMap
) -> dict[str, float]:
    """Return the Dice of each region. 1 if a region is in neither.

    Args:
        predicted: Labels, (x, y, z).
        truth: Labels, same shape.
        label_map: The regions.

    Returns:
        Scores in 0..1 by the region's name.
    """
    ours, theirs = label_map.to_regions(predicted), label_map.to_regions(truth)
    scores = {}
    for index, region in enumerate(label_map.regions):
        a, b = ours[..., index], theirs[..., index]
        both = int(a.sum()) + int(b.sum())
        scores[region] = 2 * int((a & b).sum()) / both if both else 1.0
    return scores
