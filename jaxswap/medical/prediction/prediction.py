"""Probabilities of prepared volumes by a trained network: whole, or by windows.

A volume that is larger than those of training gets a program of its own. If it does not
fit on the device, the volume is computed slab by slab, which is slower and gives the
same. If that does not fit either, windows of the size of training are predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jaxswap
from jaxswap.extend import slabs_to_predict
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
        self._own: dict[Shape, _Programs] = {}

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
        if self.is_whole and shape == self.shape and shape not in self._own:
            try:
                return self._whole(apply, image, shape)
            except RuntimeError as error:
                if not (is_exhausted(error) and slabs_to_predict(max(shape))):
                    raise
        if self.is_whole:
            found = self._as_a_whole(parameters, image, shape)
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
        if not self.is_whole:
            return ""
        seen, own = ("x".join(map(str, each)) for each in (self.shape, shape))
        programs = self._own.get(shape)
        if shape == self.shape and programs is None:
            return ""
        if programs is None or programs.compiled is None:
            how = f"{own} do not fit on the device, so it was predicted by windows"
        elif programs.is_whole:
            how = f"the network was compiled for {own}"
        else:
            how = f"{own} do not fit on the device at once, so it was computed by slabs"
        if shape == self.shape:
            return f"{how}."
        return f"is larger than the {seen} voxels of training; {how}."

    def _as_a_whole(
        self, parameters: Any, image: np.ndarray, shape: Shape
    ) -> np.ndarray | None:
        """Predict by a program of its own shape. None if the device lacks memory."""
        if shape not in self._own:
            images = jax.ShapeDtypeStruct((1, *shape, image.shape[-1]), jnp.float32)
            self._own[shape] = _Programs(
                self._forms(shape), self._probabilities, (parameters, images)
            )
        programs = self._own[shape]
        while programs.compiled is not None:
            apply = self._applied(programs.compiled, parameters)
            try:
                return self._whole(apply, image, shape)
            except RuntimeError as error:
                if not is_exhausted(error):
                    raise
                programs.go_on()
        return None

    def _forms(self, shape: Shape) -> Iterator[Any]:
        """Go over functions with the same result that need less and less memory."""
        if shape != self.shape:
            yield self._probabilities
        for slabs in slabs_to_predict(max(shape)):
            yield jax.jit(jaxswap.offload(self._probabilities_of, slabs=slabs))

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


class _Programs:
    """The first of some functions that fits on the device, compiled.

    Args:
        forms: The functions, from `jax.jit`.
        whole: The one that computes the volume at once.
        arguments: Arguments of each, or their types.

    Attributes:
        compiled: The program. None if none fits.
        is_whole: Whether it computes the volume at once.
    """

    def __init__(
        self, forms: Iterator[Any], whole: Any, arguments: tuple[Any, ...]
    ) -> None:
        self._forms = forms
        self._whole = whole
        self._arguments = arguments
        self.go_on()

    def go_on(self) -> None:
        """Take the next function that fits."""
        self.compiled: jax.stages.Compiled | None = None
        for form in self._forms:
            self.is_whole = form is self._whole
            try:
                self.compiled = compile_if_fits(form, *self._arguments)
            except ValueError:
                if self.is_whole:
                    raise
                return  # A network without convolutions cannot be cut.
            if self.compiled is not None:
                return


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
