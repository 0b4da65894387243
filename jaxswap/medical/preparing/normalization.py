"""How the intensities of each channel are brought to one scale.

As in nnU-Net, the name of a channel says it. Units of CT mean the same in every image:
they are clipped and scaled alike in all cases, by what labeled voxels of the data set
have. Units of MRI mean nothing: each image is scaled by its own mean and deviation.

References:
    Isensee et al. 2021, nnU-Net: a self-configuring method for deep learning-based
    biomedical image segmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.label_values import to_map
from jaxswap.medical.data.reading import read_case
from jaxswap.medical.data.volumes import VolumeError

SCHEMES = ("zscore", "ct", "none")
"""Schemes by the name they have in a config."""

_BY_NAME = {"ct": "ct", "nonorm": "none"}
_PERCENTILES = (0.5, 99.5)
_MOST_VOXELS = 10_000_000  # Of all cases together.
_WORKERS = 4


@dataclass(frozen=True)
class Normalization:
    """How one channel is brought to scale.

    Attributes:
        scheme: "zscore": mean 0 and variance 1 inside the mask of each image, and 0
            outside. "ct": clipped to `low` and `high`, then `mean` and `deviation` are
            taken out. "none": as it is.
        low: Intensity to clip at.
        high: Intensity to clip at.
        mean: Intensity that becomes 0.
        deviation: Difference of intensities that becomes 1.
    """

    scheme: str = "zscore"
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0

    def __str__(self) -> str:
        """Return the scheme, and its numbers if it has some."""
        if self.scheme != "ct":
            return self.scheme
        return (
            f"ct, clipped to {self.low:.4g}..{self.high:.4g}, mean {self.mean:.4g}, "
            f"deviation {self.deviation:.4g}"
        )


def choose_schemes(
    channels: Sequence[str], given: str | Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Choose a scheme for each channel.

    Args:
        channels: Names of the channels.
        given: A scheme for all channels, or for some by name. None, and channels
            without one, are chosen by name: CT is "ct", noNorm "none", others "zscore".

    Returns:
        A scheme for each channel.

    Raises:
        ValueError: If there is no such scheme or channel.

    Example:
        >>> choose_schemes(["CT", "PET"], {"PET": "none"})
        ('ct', 'none')
    """
    check_schemes(given)
    named = dict.fromkeys(channels, given) if isinstance(given, str) else given or {}
    for channel in named:
        if channel not in channels:
            raise ValueError(
                f"`normalization` names the channel {channel!r}; the data has "
                f"{', '.join(channels)}."
            )
    return tuple(
        named.get(channel) or _BY_NAME.get(channel.casefold(), "zscore")
        for channel in channels
    )


def check_schemes(given: str | Mapping[str, str] | None) -> None:
    """Raise ValueError if there is no such scheme. See `choose_schemes`.

    Args:
        given: A scheme, schemes by channel, or None.
    """
    schemes = given.values() if isinstance(given, Mapping) else [given]
    for scheme in schemes:
        if scheme is not None and scheme not in SCHEMES:
            raise ValueError(
                f"`normalization` is {scheme!r}; choose one of {', '.join(SCHEMES)}."
            )


def measure(
    dataset: Dataset,
    schemes: Sequence[str],
    *,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Normalization, ...]:
    """Measure what the schemes need: for "ct", intensities of labeled voxels.

    Args:
        dataset: The data set. All labeled cases are read if a channel needs it.
        schemes: One for each channel.
        advance: Called after each case that is read.

    Returns:
        One normalization for each channel.

    Raises:
        ValueError: If a case cannot be read, or if no voxel is labeled.
    """
    if "ct" not in schemes:
        return tuple(map(Normalization, schemes))
    most = max(_MOST_VOXELS // max(len(dataset.labeled), 1), 1)

    def sample(case: CaseFiles) -> np.ndarray:
        drawn = _labeled(case, dataset, most)
        advance()
        return drawn

    with ThreadPoolExecutor(_WORKERS) as pool:
        values = np.concatenate(list(pool.map(sample, dataset.labeled)))
    if not len(values):
        raise VolumeError(
            f"{dataset.root}: no voxel is labeled, so CT cannot be scaled; give "
            "`normalization: zscore`."
        )
    return tuple(
        _of_ct(values[:, index]) if scheme == "ct" else Normalization(scheme)
        for index, scheme in enumerate(schemes)
    )


def normalize(
    image: np.ndarray,
    mask: np.ndarray,
    channels: Sequence[str],
    normalizations: Sequence[Normalization] = (),
    name: str = "image",
) -> np.ndarray:
    """Bring every channel to scale.

    Args:
        image: Intensities, (x, y, z, channel).
        mask: The voxels that count, bool, (x, y, z).
        channels: Names of the channels, for messages.
        normalizations: One for each channel. Empty for "zscore" in all.
        name: Name of the case, for messages.

    Returns:
        Scaled intensities, float32, same shape.

    Raises:
        VolumeError: If a channel has one value everywhere inside the mask.
    """
    scaled = np.zeros(image.shape, np.float32)
    chosen = normalizations or [Normalization()] * len(channels)
    for index, (channel, how) in enumerate(zip(channels, chosen, strict=True)):
        if how.scheme == "zscore":
            inside = _standardized(image[..., index][mask], channel, name)
            scaled[mask, index] = inside
        elif how.scheme == "ct":
            clipped = np.clip(image[..., index], how.low, how.high)
            scaled[..., index] = (clipped - how.mean) / how.deviation
        else:
            scaled[..., index] = image[..., index]
    return scaled


def _standardized(inside: np.ndarray, channel: str, name: str) -> np.ndarray:
    mean = inside.mean(dtype=np.float64)
    deviation = inside.std(dtype=np.float64)
    if not deviation > 0:
        raise VolumeError(
            f"{name}: channel {channel} is {float(mean):g} everywhere in the "
            "brain, so it cannot be normalized. Leave the case out or replace the "
            "file."
        )
    return (inside - mean) / deviation


def _labeled(case: CaseFiles, dataset: Dataset, most: int) -> np.ndarray:
    """Return intensities of labeled voxels, (voxel, channel), evenly drawn."""
    volumes = read_case(case, dataset.channels)
    assert volumes.labels is not None
    if dataset.label_map is None:
        raise ValueError(f"{volumes.labels.path}: what its values mean is not known.")
    labels, _ = to_map(volumes.labels, dataset.label_map)
    inside = volumes.image[labels > 0]
    return inside[:: max(-(-len(inside) // most), 1)]


def _of_ct(values: np.ndarray) -> Normalization:
    low, high = np.percentile(values, _PERCENTILES)
    deviation = float(values.std(dtype=np.float64))
    return Normalization(
        "ct",
        float(low),
        float(high),
        float(values.mean(dtype=np.float64)),
        max(deviation, 1e-8),
    )
