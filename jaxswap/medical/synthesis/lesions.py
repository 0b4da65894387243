"""Painting everything bright in a head: the tumour, its satellites, and lookalikes.

Foci are placed around the primary tumour, also if it is absent. How they are painted
does not depend on the tumour's kind. Only their labels do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxswap.medical.synthesis.contrast import Tissue
from jaxswap.medical.synthesis.foci import Focus, draw_caps, draw_focus
from jaxswap.medical.synthesis.lattice import Lattice, interpolate
from jaxswap.medical.synthesis.primary_tumour import GrownHead, Primary
from jaxswap.medical.synthesis.surroundings import (
    distance_to_ventricles_mm,
    look_around,
)
from jaxswap.medical.synthesis.synthetic_recipe import Recipe
from jaxswap.medical.synthesis.tissue_maps import TissueMaps
from jaxswap.medical.synthesis.tumour_labels import (
    OEDEMA_LABEL,
    label_tumour,
    paint_solid_lump,
    paint_tumour,
)

_SATELLITE_CORE = 0.6  # Of a satellite's radius.
_CAP_MM = (2.0, 5.0)
_CAP_GAP_MM = 10.0  # Between caps and the tumour.
_TRACE = 0.01  # Below this concentration nothing is painted.
_MARGIN_MM = 5.0


@dataclass(frozen=True)
class Lesions:
    """The lesions of a head, on the lattice of its images.

    The arrays are written to while lesions are painted.

    Attributes:
        tissue: `Tissue` of each voxel, uint8, (x, y, z). 0 if there is no lesion.
        oedema: Share of the brain tissue that is oedema, float32 in 0..1, same shape.
        labels: 0 background, 1 necrosis and non-enhancing core, 2 oedema, 3 enhancing
            tumour, uint8, same shape.
        primary: Voxels of the primary tumour, bool, same shape.
        core: Voxels around its center with many tumour cells, bool, same shape.
    """

    tissue: np.ndarray
    oedema: np.ndarray
    labels: np.ndarray
    primary: np.ndarray
    core: np.ndarray


@dataclass(frozen=True)
class LesionStreams:
    """The sources of randomness of each kind of lesion."""

    tumour: np.random.Generator
    foci: np.random.Generator
    satellites: np.random.Generator
    caps: np.random.Generator


@dataclass(frozen=True)
class _Scene:
    """The head into which lesions are painted."""

    lesions: Lesions
    anatomy: TissueMaps
    lattice: Lattice


def paint_lesions(
    recipe: Recipe,
    primary: Primary,
    grown: GrownHead,
    anatomy: TissueMaps,
    lattice: Lattice,
    streams: LesionStreams,
) -> tuple[Lesions, list[dict[str, Any]]]:
    """Paint and label all lesions of a head.

    Args:
        recipe: What cases are made of.
        primary: The kind of primary tumour.
        grown: The head in which it has grown.
        anatomy: The head's tissue on the lattice of the images.
        lattice: The lattice of the images.
        streams: Sources of randomness.

    Returns:
        The lesions, and a record of each focus and satellite.
    """
    lesions = _no_lesions(lattice)
    scene = _Scene(lesions, anatomy, lattice)
    if primary.is_present:
        _paint_primary(scene, primary, grown, streams.tumour)
    around = look_around(grown)
    foci = around.place(streams.foci, recipe.foci)
    # The rule of the arm: nothing in a focus itself says whether it is tumour.
    are_tumour = (
        recipe.arm == "multifocal" and primary.is_present and primary.is_enhancing
    )
    records = []
    for focus in foci:
        where = _paint_focus(scene, focus, streams.foci)
        if are_tumour:
            lesions.labels[where] = OEDEMA_LABEL
        records.append(_record(scene, focus, "focus", are_tumour, where))
    if primary.is_present and recipe.satellites.count[1]:
        free = around.without(foci, recipe.satellites.diameter_mm[1] + _MARGIN_MM)
        core = Tissue.ENHANCING if primary.is_enhancing else Tissue.SOLID
        for focus in free.place(streams.satellites, recipe.satellites):
            where = _paint_focus(scene, focus, streams.satellites)
            _paint_satellite_core(scene, focus, where, core)
            records.append(_record(scene, focus, "satellite", True, where))
    if streams.caps.random() < recipe.caps:
        _paint_caps(scene, grown, around.to_tumour_mm, streams.caps)
    return lesions, records


def _no_lesions(lattice: Lattice) -> Lesions:
    return Lesions(
        np.zeros(lattice.shape, np.uint8),
        np.zeros(lattice.shape, np.float32),
        np.zeros(lattice.shape, np.uint8),
        np.zeros(lattice.shape, bool),
        np.zeros(lattice.shape, bool),
    )


def _paint_primary(
    scene: _Scene, primary: Primary, grown: GrownHead, random: np.random.Generator
) -> None:
    cells = grown.growth.concentration
    inside = np.argwhere(cells > _TRACE)
    low = grown.lattice.point_mm(tuple(inside.min(0))) - _MARGIN_MM
    high = grown.lattice.point_mm(tuple(inside.max(0))) + _MARGIN_MM
    window = scene.lattice.window(low, high)
    part = scene.lattice.cut(window)
    rim_mm = primary.rim_mm if primary.is_enhancing else None
    painted = paint_tumour(
        interpolate(cells, grown.lattice, part),
        scene.anatomy.cut(window),
        part,
        random,
        rim_mm,
    )
    tissue = painted.tissue
    core = (tissue != 0) & (tissue != Tissue.OEDEMA)
    if primary.lump_mm:
        paint_solid_lump(tissue, part, random, primary.lump_mm)
    scene.lesions.tissue[window] = tissue
    scene.lesions.oedema[window] = painted.oedema
    scene.lesions.labels[window] = label_tumour(tissue)
    scene.lesions.primary[window] = tissue != 0
    scene.lesions.core[window] = core


def _paint_focus(
    scene: _Scene, focus: Focus, random: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Paint a focus of oedema. Return the indices of its voxels."""
    window, share = draw_focus(random, focus, scene.lattice)
    oedema = scene.lesions.oedema[window]
    np.maximum(oedema, share, out=oedema)
    tissue = scene.lesions.tissue[window]
    is_brain = (scene.anatomy.brain[window] > 0) & (scene.anatomy.fluid[window] < 0.5)
    inside = (share > 0.5) & is_brain & (tissue == 0)
    tissue[inside] = Tissue.OEDEMA
    places = np.nonzero(inside)
    return tuple(place + part.start for place, part in zip(places, window, strict=True))


def _paint_satellite_core(
    scene: _Scene, focus: Focus, where: tuple[np.ndarray, ...], core: Tissue
) -> None:
    points = _points_mm(where, scene.lattice)
    distance = np.linalg.norm(points - np.array(focus.center_mm), axis=1)
    tissue = scene.lesions.tissue[where]
    tissue[distance <= _SATELLITE_CORE * focus.radius_mm] = core
    scene.lesions.tissue[where] = tissue
    scene.lesions.labels[where] = label_tumour(tissue)


def _paint_caps(
    scene: _Scene,
    grown: GrownHead,
    to_tumour_mm: np.ndarray,
    random: np.random.Generator,
) -> None:
    thickness = float(random.uniform(*_CAP_MM))
    fields = np.stack([distance_to_ventricles_mm(grown), to_tumour_mm])
    from_ventricles, from_tumour = interpolate(
        np.minimum(fields, 1e3), grown.lattice, scene.lattice
    )
    share = draw_caps(
        random, from_ventricles, scene.anatomy.white, scene.lattice, thickness
    )
    share *= (from_tumour > _CAP_GAP_MM) & (scene.lesions.tissue == 0)
    np.maximum(scene.lesions.oedema, share, out=scene.lesions.oedema)
    scene.lesions.tissue[(share > 0.5) & (scene.anatomy.fluid < 0.5)] = Tissue.OEDEMA


def _record(
    scene: _Scene,
    focus: Focus,
    kind: str,
    is_tumour: bool,
    where: tuple[np.ndarray, ...],
) -> dict[str, Any]:
    voxel_ml = scene.lattice.spacing_mm**3 / 1000
    return {
        "kind": kind,
        "is_tumour": is_tumour,
        "center_mm": focus.center_mm,
        "reach_mm": focus.reach_mm,
        "diameter_mm": 2 * focus.radius_mm,
        "is_far": focus.is_far,
        "to_core_mm": _distance_mm(focus, scene.lesions.core, scene.lattice),
        "to_tumour_mm": _distance_mm(focus, scene.lesions.primary, scene.lattice),
        "volume_ml": len(where[0]) * voxel_ml,
    }


def _distance_mm(focus: Focus, mask: np.ndarray, lattice: Lattice) -> float | None:
    """Return the distance of a focus's center from the nearest voxel of a mask."""
    if not mask.any():
        return None
    points = _points_mm(np.nonzero(mask), lattice)
    return float(np.linalg.norm(points - np.array(focus.center_mm), axis=1).min())


def _points_mm(where: tuple[np.ndarray, ...], lattice: Lattice) -> np.ndarray:
    return np.array(lattice.start_mm) + lattice.spacing_mm * np.stack(where, axis=1)
