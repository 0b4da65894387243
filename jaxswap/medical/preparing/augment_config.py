"""The random changes of a training case: which, how large, how often."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

Range = tuple[float, float]

# Ranges whose smallest value may be 0. In all others it must be positive.
_MAY_BE_ZERO = frozenset({"noise_deviation", "brightness", "contrast"})
_RANGES = _MAY_BE_ZERO | {"scaling", "blur_voxels", "low_resolution_scale", "gamma"}


@dataclass(frozen=True)
class AugmentConfig:
    """The random changes of a training case: which, how large, how often.

    Probabilities are for each case. Ranges are (smallest, largest), as a tuple or list.
    Factors of `brightness`, `contrast` and `gamma` are equally often below 1 and above.
    Intensities are expected to have mean 0 and standard deviation 1 in the brain.

    Attributes:
        rotation_degrees: Largest turn about each axis, in both directions.
        rotation_probability: How often a case is turned.
        scaling: Distance between samples in voxels. Above 1 the head becomes smaller.
        scaling_probability: How often a case is scaled.
        noise_deviation: Standard deviation of the noise, the same for all channels.
            nnU-Net calls the same number a variance.
        noise_probability: How often noise is added.
        blur_voxels: Standard deviation of the blur, drawn for each channel and axis.
        blur_probability: How often a case is blurred.
        brightness: Factor of the intensities.
        brightness_probability: How often intensities are multiplied.
        contrast: Factor of the distance from the mean. Intensities stay in their range.
        contrast_probability: How often the contrast changes.
        low_resolution_scale: Voxels of the coarser grid over those of the image.
        low_resolution_probability: How often a coarser grid is simulated.
        gamma: Exponent of the intensities. Mean and standard deviation stay.
        gamma_probability: How often the exponent is applied.
        inverted_gamma_probability: How often it is applied to the negative image.
        channel_probability: How often a channel takes part if a case is blurred or put
            on a coarser grid.
        mirror_axes: Axes that may be mirrored. Leave out 0 (left and right) if labels
            distinguish the sides.
        mirror_probability: How often each of these axes is mirrored.

    Raises:
        ValueError: If a value does not fit. The message names it and what would fit.

    Example:
        >>> config = AugmentConfig(scaling=(0.9, 1.1), mirror_axes=(1, 2))
        >>> config.scaling, config.mirror_axes
        ((0.9, 1.1), (1, 2))
    """

    rotation_degrees: float = 30.0
    rotation_probability: float = 0.2
    scaling: Range = (0.7, 1.4)
    scaling_probability: float = 0.2
    noise_deviation: Range = (0.0, 0.1)
    noise_probability: float = 0.1
    blur_voxels: Range = (0.5, 1.0)
    blur_probability: float = 0.2
    brightness: Range = (0.75, 1.25)
    brightness_probability: float = 0.15
    contrast: Range = (0.75, 1.25)
    contrast_probability: float = 0.15
    low_resolution_scale: Range = (0.5, 1.0)
    low_resolution_probability: float = 0.25
    gamma: Range = (0.7, 1.5)
    gamma_probability: float = 0.3
    inverted_gamma_probability: float = 0.1
    channel_probability: float = 0.5
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    mirror_probability: float = 0.5

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name.endswith("_probability"):
                value = _number(name, value)
                if not 0 <= value <= 1:
                    raise ValueError(f"`{name}` is {value:g}, not in 0..1.")
            elif name in _RANGES:
                value = _range(name, value)
            elif name == "mirror_axes":
                value = _axes(value)
            else:
                value = _number(name, value)
                if not 0 <= value <= 180:
                    raise ValueError(f"`{name}` is {value:g}, not in 0..180.")
            object.__setattr__(self, name, value)
        if self.low_resolution_scale[1] > 1:
            raise ValueError(
                f"`low_resolution_scale` is {self.low_resolution_scale}, but a coarser "
                "grid has at most 1 times the voxels."
            )


def _range(name: str, value: Any) -> Range:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(
            f"`{name}` is {value!r}; it needs two numbers: smallest and largest."
        )
    low, high = _number(name, value[0]), _number(name, value[1])
    if not low <= high:
        raise ValueError(f"`{name}` is {low:g} to {high:g}: the smallest comes first.")
    if low < 0 or (low == 0 and name not in _MAY_BE_ZERO):
        needed = "0 or more" if name in _MAY_BE_ZERO else "positive"
        raise ValueError(f"`{name}` starts at {low:g}, but has to be {needed}.")
    return low, high


def _axes(value: Any) -> tuple[int, ...]:
    # Only a list or tuple can be a list of axes. Anything else is refused below.
    axes: list[Any] = [*value] if isinstance(value, list | tuple) else [value, value]
    whole = all(type(axis) is int and 0 <= axis <= 2 for axis in axes)
    if not whole or len(set(axes)) < len(axes):
        raise ValueError(
            f"`mirror_axes` is {value!r}; it needs different numbers among 0, 1 and 2, "
            "or none."
        )
    return tuple(sorted(axes))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"`{name}` holds {value!r}, which is not a number.")
    if not math.isfinite(value):
        raise ValueError(f"`{name}` holds {value}, which is not finite.")
    return float(value)
