"""Labels of prepared volumes by a network on a mesh of devices.

Every process calls the same functions with the same cases, because a program on a mesh
runs on all of its devices or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxswap.medical.data.grid import Shape
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.networks.objective import (
    labels_in_slabs,
    labels_of,
    probabilities_of,
)
from jaxswap.medical.prediction.sliding_window import predict_windows
from jaxswap.medical.preparing.mesh import RunMesh
from jaxswap.medical.preparing.patches import choose_start, cut


class MeshPredictor:
    """Predicts volumes with one compiled program, `data` of them at a time.

    Attributes:
        network: The network.
        label_map: What labels mean.
        shape: Voxels that the network sees at a time.
        is_whole: Whether it sees a whole padded volume. If not, it sees a window.
        mesh: The devices.
    """

    def __init__(
        self,
        network: nn.Module,
        label_map: LabelMap,
        shape: Shape,
        mesh: RunMesh,
        *,
        is_whole: bool,
    ) -> None:
        self.network = network
        self.label_map = label_map
        self.shape = shape
        self.mesh = mesh
        self.is_whole = is_whole
        self._labels = jax.jit(self._labels_of, out_shardings=mesh.split_cases)
        self._probabilities = jax.jit(
            self._probabilities_of, out_shardings=mesh.replicated
        )

    def labels(
        self, parameters: Any, images: Sequence[np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Compute the label of each voxel.

        Args:
            parameters: Parameters of the network, on every device of the mesh.
            images: Prepared images, (x, y, z, channel), any number of them.

        Returns:
            Labels, uint8, (x, y, z), by the position of their image. Only those that
            the devices of this process hold.
        """
        count = self.mesh.shape.data
        found = {}
        for first in range(0, len(images), count):
            group = images[first : first + count]
            labels = self._group(parameters, group)
            found |= {first + place: array for place, array in labels.items()}
        return found

    def _group(self, parameters: Any, group: Sequence[np.ndarray]) -> Any:
        if not self.is_whole:
            return {
                place: self._by_windows(parameters, image)
                for place, image in enumerate(group)
            }
        # Empty places repeat the last case, so that one program fits all groups.
        count = self.mesh.shape.data
        repeated = [*group, *[group[-1]] * (count - len(group))]
        labels = self._labels(parameters, self._placed(repeated))
        rows = {
            shard.index[0].indices(count)[0]: shard.data
            for shard in labels.addressable_shards
        }
        found = {}
        for row, data in rows.items():
            for offset, array in enumerate(np.asarray(data)):
                place = row + offset
                if place < len(group):
                    start = self._start(group[place])
                    inside = tuple(
                        slice(-s, n - s)
                        for s, n in zip(start, group[place].shape, strict=False)
                    )
                    found[place] = array[inside]
        return found

    def _start(self, image: np.ndarray) -> Shape:
        """Return the first voxel of the padded volume, counted from the image's."""
        return choose_start(0, image.shape[:3], self.shape, 0, None)

    def _placed(self, images: Sequence[np.ndarray]) -> jax.Array:
        shape = (len(images), *self.shape, images[0].shape[-1])
        part = self.mesh.part(shape)
        boxes = [
            cut(image, *part.of(self._start(image), self.shape))
            for image in images[slice(*part.cases)]
        ]
        return self.mesh.place_batch(np.stack(boxes).astype(np.float32), shape)

    def _by_windows(self, parameters: Any, image: np.ndarray) -> np.ndarray:
        def apply(windows: np.ndarray) -> np.ndarray:
            part = self.mesh.part(windows.shape)
            (a, b), (c, d), (e, f) = part.cases, part.x, part.y
            placed = self.mesh.place_batch(windows[a:b, c:d, e:f], windows.shape)
            return np.asarray(self._probabilities(parameters, placed))

        found = predict_windows(
            apply, image, self.shape, 0.5, (), batch=self.mesh.shape.data
        )
        return labels_in_slabs(found, self.label_map)

    def _labels_of(self, parameters: Any, images: jax.Array) -> jax.Array:
        return labels_of(self._probabilities_of(parameters, images), self.label_map)

    def _probabilities_of(self, parameters: Any, images: jax.Array) -> jax.Array:
        logits: Any = self.network.apply(parameters, images)
        return probabilities_of(logits, self.label_map)
