"""Probabilities of prepared volumes by a trained network: whole, or by windows.

A volume that is larger than those of training gets a program of its own, if it fits on
the device. Otherwise windows of the size of training are predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxswap.medical.data.grid import Shape
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.networks.networks import multiple_of
from jaxswap.medical.networks.objective import labels_in_slabs, probabilities_of
from jaxswap.medical.prediction.device_room import compile_if_fits, is_exhausted
from jaxswap.medical.prediction.sliding_window import mirrorings, predict_windows
from jaxswap.medical.preparing.patches import padded
from jaxswap.medical.preparing.preparing import fit_shape


class Predictor:
    """Predicts volumes, all that are no larger than in training by one program.

    Attributes:
        network: The network.
        label_map: What labels mean.
        shape: Voxels that the network sees at a time.
        is_whole: Whether it sees a whole padded volume. If not, it sees a window.
        mirror_axes: Axes along which volumes or windows are mirrored and averaged.
    """

    def __init__(
        self,
        network: nn.Module,
        label_map: LabelMap,
        shape: Shape,
        *,
        is_whole: bool,
        mirror_axes: tuple[int, ...] = (),
    ) -> None:
        self.network = network
        self.label_map = label_map
        self.shape = shape
        self.is_whole = is_whole
        self.mirror_axes = mirror_axes
        self._probabilities = jax.jit(self._probabilities_of)
        self._own: dict[Shape, jax.stages.Compiled | None] = {}

    def probabilities(self, parameters: Any, image: np.ndarray) -> np.ndarray:
        """Compute the probability of each region.

        Args:
            parameters: Parameters of the network.
            image: Prepared image, (x, y, z, channel).

        Returns:
            Probabilities, float32, (x, y, z, region), on the host.
        """
        shape = self.shape_for(image.shape[:3])
        apply = self._applied(self._probabilities, parameters)
        if self.is_whole and shape == self.shape:
            return self._whole(apply, image, shape)
        if self.is_whole:
            found = self._larger(parameters, image, shape)
            if found is not None:
                return found
        return predict_windows(apply, image, self.shape, 0.5, self.mirror_axes)

    def labels(self, parameters: Any, image: np.ndarray) -> np.ndarray:
        """Compute the label of each voxel, uint8, (x, y, z). See `probabilities`."""
        return labels_in_slabs(self.probabilities(parameters, image), self.label_map)

    def shape_for(self, sides: tuple[int, ...]) -> Shape:
        """Return the voxels that a volume is padded to: of training, or more."""
        largest = [max(a, b) for a, b in zip(sides, self.shape, strict=True)]
        return fit_shape(largest, multiple_of(self.network))

    def note(self, sides: tuple[int, ...]) -> str:
        """Say how a volume was predicted, if not as in training. Else it is empty.

        Args:
            sides: Voxels of the volume. It has been predicted before.
        """
        shape = self.shape_for(sides)
        if not self.is_whole or shape == self.shape:
            return ""
        seen, own = ("x".join(map(str, each)) for each in (self.shape, shape))
        if self._own.get(shape) is None:
            how = f"{own} do not fit on the device, so it was predicted by windows"
        else:
            how = f"the network was compiled for {own}"
        return f"is larger than the {seen} voxels of training; {how}."

    def _larger(
        self, parameters: Any, image: np.ndarray, shape: Shape
    ) -> np.ndarray | None:
        """Predict by a program of its own shape. None if the device lacks memory."""
        if shape not in self._own:
            images = jax.ShapeDtypeStruct((1, *shape, image.shape[-1]), jnp.float32)
            self._own[shape] = compile_if_fits(self._probabilities, parameters, images)
        compiled = self._own[shape]
        if compiled is None:
            return None
        try:
            return self._whole(self._applied(compiled, parameters), image, shape)
        except RuntimeError as error:
            if not is_exhausted(error):
                raise
            self._own[shape] = None
            return None

    def _whole(
        self, apply: Callable[[np.ndarray], Any], image: np.ndarray, shape: Shape
    ) -> np.ndarray:
        """Return the mean over all mirrorings."""
        whole, start = padded(np.asarray(image, np.float32), shape)
        inside = tuple(
            slice(s, s + n) for s, n in zip(start, image.shape[:3], strict=True)
        )
        mean: np.ndarray | None = None
        for count, flip in enumerate(mirrorings(self.mirror_axes), 1):
            mirrored = np.ascontiguousarray(np.flip(whole, flip))
            found = np.asarray(apply(mirrored[None])[0], np.float32)
            found = np.flip(found, flip)[inside]
            if mean is None:
                mean = np.array(found) if self.mirror_axes else found
            else:
                change = found - mean
                change *= np.float32(1 / count)
                mean += change
        assert mean is not None
        return mean

    @staticmethod
    def _applied(function: Any, parameters: Any) -> Callable[[np.ndarray], Any]:
        return lambda images: function(parameters, jnp.asarray(images))

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
