"""What a prediction needs to know of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from jaxswap.medical.data.grid import Shape
from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.labels_json import PlainLabelMap, from_plain, to_plain
from jaxswap.medical.data.plain_files import read_json
from jaxswap.medical.preparing.normalization import Normalization
from jaxswap.medical.preparing.preparing import PrepareConfig
from jaxswap.medical.runs.run_config import RunConfig

Spacing = tuple[float, float, float]
_MOST_CHANGE = 1.1  # Beyond this, structures have another size than in training.


class _Plain(TypedDict):
    """What JSON holds of a run."""

    channels: tuple[str, ...]
    shape: Shape
    label_map: PlainLabelMap
    positions: NotRequired[tuple[int, ...]]
    spacings_mm: NotRequired[tuple[Spacing, Spacing] | None]
    normalizations: NotRequired[tuple[Normalization, ...]]


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
        values = {name: getattr(self, name) for name in _Plain.__annotations__}
        return values | {
            "label_map": to_plain(self.label_map),
            "normalizations": [asdict(how) for how in self.normalizations],
        }

    @classmethod
    def read(cls, path: Path, config: RunConfig) -> Trained:
        """Read what `to_plain` returned from a JSON file.

        Args:
            path: The file.
            config: The settings of the run.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged. The message names the place in it.
        """
        known: _Plain = read_json(path, _Plain)
        try:
            label_map = from_plain(known["label_map"])
        except ValueError as error:
            raise ValueError(f"{path}: is damaged ({error}).") from error
        return cls(**{**known, "label_map": label_map}, config=config)


def _by(sizes: Sequence[float]) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)
