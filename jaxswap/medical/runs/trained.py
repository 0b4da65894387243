"""What a prediction needs to know of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jaxswap.medical.data.grid import Shape
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.labels_json import from_plain, to_plain
from jaxswap.medical.preparing.normalization import Normalization
from jaxswap.medical.preparing.preparing import PrepareConfig
from jaxswap.medical.runs.run_config import RunConfig

Spacing = tuple[float, float, float]
_MOST_CHANGE = 1.1  # Beyond this, structures have another size than in training.


@dataclass(frozen=True)
class Trained:
    """What a prediction needs to know of a run.

    Attributes:
        config: The settings of the run.
        channels: Names of the channels, in order.
        shape: Voxels of a whole volume in the network.
        label_map: What labels mean.
        positions: The number of each channel in numbered files, see `Dataset`.
        spacings_mm: Smallest and largest voxel size along each axis, as the network saw
            them. None if it is not known.
        normalizations: How each channel is brought to scale.
    """

    config: RunConfig
    channels: tuple[str, ...]
    shape: Shape
    label_map: LabelMap
    positions: tuple[int, ...] = ()
    spacings_mm: tuple[Spacing, Spacing] | None = None
    normalizations: tuple[Normalization, ...] = ()

    def prepare_config(self, multiple: int) -> PrepareConfig:
        """Return how images are prepared as in training, each as small as it can be.

        Args:
            multiple: Each axis of the prepared grid is divisible by this.
        """
        return PrepareConfig(
            multiple,
            None,
            self.config.spacing_mm,
            self.config.mask,
            self.normalizations,
        )

    def odd_spacing(self, spacing_mm: Spacing) -> str:
        """Say how voxels differ from those of training. Empty if they do not.

        Args:
            spacing_mm: Sides of the voxels that the network is to see.
        """
        if self.spacings_mm is None:
            return ""
        low, high = (np.array(sizes) for sizes in self.spacings_mm)
        given = np.array(spacing_mm)
        is_near = (given > low / _MOST_CHANGE) & (given < high * _MOST_CHANGE)
        if is_near.all():
            return ""
        seen = _by(self.spacings_mm[0])
        if not np.allclose(low, high, rtol=1e-2):
            seen = f"{seen} to {_by(self.spacings_mm[1])}"
        return (
            f"voxels are {_by(spacing_mm)} mm, but the network was trained on {seen} "
            "mm. Resample the images, or train with `spacing_mm`."
        )

    def to_plain(self) -> dict[str, Any]:
        """Return all but the settings as plain values, for JSON."""
        return {
            "channels": self.channels,
            "shape": self.shape,
            "label_map": to_plain(self.label_map),
            "positions": self.positions,
            "spacings_mm": self.spacings_mm,
            "normalizations": [asdict(how) for how in self.normalizations],
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], config: RunConfig) -> Trained:
        """Return what `to_plain` wrote.

        Args:
            plain: The values.
            config: The settings of the run.

        Raises:
            ValueError, KeyError, TypeError: If these are not the values.
        """
        x, y, z = plain["shape"]
        spacings = plain.get("spacings_mm")
        if spacings is not None:
            (a, b, c), (d, e, f) = spacings
            spacings = (a, b, c), (d, e, f)
        return cls(
            config=config,
            channels=tuple(plain["channels"]),
            shape=(x, y, z),
            label_map=from_plain(plain["label_map"]),
            positions=tuple(plain.get("positions", ())),
            spacings_mm=spacings,
            normalizations=tuple(
                Normalization(**how) for how in plain.get("normalizations", ())
            ),
        )


def _by(sizes: Sequence[float]) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)
