"""Growth of a glioma: cells multiply in place, and move along white matter.

The concentration c of tumour cells, between 0 and 1, follows Fisher and Kolmogorov:

    dc/dt = div(D grad c) + rho c (1 - c)

Time is measured in 1/rho and D in mm^2 rho. So one length, sqrt(D/rho), says how
diffuse a tumour is. D is five times smaller in grey than in white matter. It is zero in
fluid (Swanson et al. 2000, Harpold et al. 2007). No cells leave the brain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxswap.medical.data.masks import sides_mm

VISIBLE = 0.16
"""Concentration from which tissue is bright on T2 (Swanson et al. 2008)."""

_GREY_TO_WHITE = 0.2
_LEAST = 1e-6  # Relative diffusivity that keeps the harmonic mean finite.
_STABLE = 0.9  # Share of the largest stable time step.
_LONGEST = 80.0  # After this time a tumour has filled what it can reach.
_STEPS_PER_LOOK = 8
_FIRST_MM = 3.0  # Standard deviation of the cells at the beginning.


@dataclass(frozen=True)
class Growth:
    """The tumour that grew from a seed.

    Attributes:
        concentration: Tumour cells, float32 in 0..1, (x, y, z).
        time: When growth was stopped, in 1/rho.
        extent_mm: Longest side of the box around what is visible.
    """

    concentration: np.ndarray
    time: float
    extent_mm: float


def diffusivity(
    white: np.ndarray, grey: np.ndarray, length_mm: float, roughness: np.ndarray
) -> np.ndarray:
    """Compute how easily tumour cells move through each voxel.

    Args:
        white: Share of white matter, (x, y, z).
        grey: Share of grey matter, same shape.
        length_mm: Sqrt(D/rho) in white matter: 2 to 4 for high-grade gliomas, 4 to 6
            for diffuse ones.
        roughness: Logarithm of a factor for each voxel, same shape.

    Returns:
        D in mm^2 rho, float32, (x, y, z).
    """
    share = white + _GREY_TO_WHITE * grey
    return (length_mm**2 * share * np.exp(roughness)).astype(np.float32)


def grow(
    diffusivity_mm2: np.ndarray,
    seed: tuple[int, ...],
    spacing_mm: float,
    extent_mm: float,
    visibility: np.ndarray,
) -> Growth:
    """Let a tumour grow from a seed until its visible part has a given extent.

    Args:
        diffusivity_mm2: See `diffusivity`, float32, (x, y, z).
        seed: Index of the voxel where it begins.
        spacing_mm: Distance between voxels.
        extent_mm: Growth stops when the visible part is at least this long.
        visibility: Factor of the concentration before it is compared with `VISIBLE`,
            float32, (x, y, z).

    Returns:
        The tumour. If there is no more tissue to reach, it is smaller than requested.

    Raises:
        ValueError: If no cells can live at the seed.
    """
    if diffusivity_mm2[seed] <= 0:
        raise ValueError(f"`seed` {seed} lies in fluid or outside the brain.")
    rates = _face_rates(diffusivity_mm2, spacing_mm)
    fastest = float(diffusivity_mm2.max()) / spacing_mm**2
    step = min(_STABLE / (6 * fastest), 0.25)
    scaled = tuple(np.float32(step) * rate for rate in rates)
    cells = _first_cells(diffusivity_mm2.shape, seed, spacing_mm)
    cells *= diffusivity_mm2 > 0  # No cells get there later: no face lets them in.
    time, extent = 0.0, 0.0
    while extent < extent_mm and time < _LONGEST:
        for _ in range(_STEPS_PER_LOOK):
            _advance(cells, scaled, np.float32(step))
        time += step * _STEPS_PER_LOOK
        extent = max(sides_mm(cells * visibility > VISIBLE, spacing_mm))
    return Growth(cells, time, extent)


def _face_rates(
    diffusivity_mm2: np.ndarray, spacing_mm: float
) -> tuple[np.ndarray, ...]:
    """Return the exchange rate between neighbours along each axis.

    The harmonic mean of two voxels is zero if one of them lets no cells through.
    """
    rates = []
    for axis in range(3):
        first = np.delete(diffusivity_mm2, -1, axis)
        second = np.delete(diffusivity_mm2, 0, axis)
        mean = 2 * first * second / np.maximum(first + second, _LEAST)
        rates.append((mean / spacing_mm**2).astype(np.float32))
    return tuple(rates)


def _first_cells(
    shape: tuple[int, ...], seed: tuple[int, ...], spacing_mm: float
) -> np.ndarray:
    squares = np.zeros(shape, np.float32)
    for axis, place in enumerate(seed):
        steps = (np.arange(shape[axis], dtype=np.float32) - place) * spacing_mm
        squares = squares + np.square(steps).reshape(-1, *(1,) * (2 - axis))
    size = max(_FIRST_MM, spacing_mm)
    # Cut off, so that nothing begins on the other side of a gap.
    return np.exp(-squares / (2 * size**2)) * (squares < (2 * size) ** 2)


def _advance(
    cells: np.ndarray, rates: tuple[np.ndarray, ...], step: np.float32
) -> None:
    """Make one explicit step in time, in place."""
    change = step * cells
    change *= 1 - cells
    for axis, rate in enumerate(rates):
        flux = np.diff(cells, axis=axis)
        flux *= rate
        low = (slice(None),) * axis + (slice(None, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        change[low] += flux
        change[high] -= flux
    cells += change
