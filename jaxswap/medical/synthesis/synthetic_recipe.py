"""What synthetic cases are made of: the arms of the experiment, as data.

- `glioma` is the control: one tumour. No label depends on something far away in the
  head. Whole volumes are expected to gain nothing here.
- `multifocal` needs the whole head. Small bright foci are tumour if and only if an
  enhancing primary tumour exists anywhere. Solid tissue is core if and only if its
  tumour enhances nowhere.
- `parcellation` invents no rule: left and right structures of a real anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jaxswap.medical.synthesis.acquisition import AcquisitionRanges
from jaxswap.medical.synthesis.foci import FociRanges
from jaxswap.medical.synthesis.head_shapes import ShapeRanges
from jaxswap.medical.synthesis.lattice import Shape

ARMS = ("glioma", "multifocal", "parcellation")

STATEMENT = (
    "Synthetic tumours on one real anatomical template (MNI152), not patients: "
    "results on these cases are not clinical evidence and not comparable with BraTS."
)
PARCELLATION_STATEMENT = (
    "Random deformations of one real anatomical template and its atlas labels, not "
    "patients: results on these cases are not clinical evidence."
)

_HEAD_MM = (145.0, 181.0, 155.0)  # Sides of the box around the MNI152 brain.
_SPACING_MM = (0.4, 5.0)
_MOST_SATELLITES = 3
_PUNCTATE = FociRanges((0, 5), (4.0, 8.0), gap_mm=15.0)
_NO_SATELLITES = FociRanges((0, 0), (8.0, 18.0), within_mm=40.0)


@dataclass(frozen=True)
class TumourRanges:
    """How primary tumours may differ.

    Attributes:
        absent: Share of heads without one.
        non_enhancing: Share of tumours that take up no contrast agent.
        diffuse: Share of tumours that are diffuse.
        extent_mm: Smallest and largest extent of tumours that are not diffuse.
        diffuse_extent_mm: Smallest and largest extent of diffuse ones.
        length_mm: Sqrt(D/rho) of tumours that are not diffuse. See `tumour_growth`.
        diffuse_length_mm: Sqrt(D/rho) of diffuse ones.
        roughness: Standard deviation of the logarithm of diffusivity between places.
        rim_mm: Thickness of the enhancing rim.
        push_mm: How far tissue is pushed away, at most a fifth of the extent.
        lump_mm: Radius of the solid lump far from the core. None for no lump.
    """

    absent: float = 0.0
    non_enhancing: float = 0.25
    diffuse: float = 0.2
    extent_mm: tuple[float, float] = (45.0, 100.0)
    diffuse_extent_mm: tuple[float, float] = (100.0, 135.0)
    length_mm: tuple[float, float] = (2.0, 4.0)
    diffuse_length_mm: tuple[float, float] = (6.0, 9.0)
    roughness: float = 0.5
    rim_mm: tuple[float, float] = (3.0, 8.0)
    push_mm: tuple[float, float] = (5.0, 15.0)
    lump_mm: tuple[float, float] | None = None


@dataclass(frozen=True)
class Recipe:
    """What a case is made of. With a seed and an index it decides everything.

    Attributes:
        arm: One of `ARMS`.
        shape: Voxels right, anterior and superior.
        spacing_mm: Side of a voxel.
        head: How heads may differ in shape.
        tumour: How primary tumours may differ.
        foci: Small bright foci away from the tumour. In the arm `glioma` they are never
            tumour. In `multifocal` they are if a primary tumour enhances.
        caps: Share of heads with bright caps around the ventricles.
        satellites: Satellites of the primary that are recognizable by their own core.
        acquisition: How strong the faults of images may be.

    Raises:
        ValueError: If the arm is unknown, or the head does not fit into the volume.
    """

    arm: str
    shape: Shape
    spacing_mm: float
    head: ShapeRanges = field(default_factory=ShapeRanges)
    tumour: TumourRanges = field(default_factory=TumourRanges)
    foci: FociRanges = _PUNCTATE
    caps: float = 0.5
    satellites: FociRanges = _NO_SATELLITES
    acquisition: AcquisitionRanges = field(default_factory=AcquisitionRanges)

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise ValueError(f"`arm` is {self.arm!r}; choose one of {', '.join(ARMS)}.")
        low, high = _SPACING_MM
        if not low <= self.spacing_mm <= high:
            raise ValueError(
                f"`spacing_mm` is {self.spacing_mm:g}; it needs to be between {low:g} "
                f"and {high:g} mm."
            )
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"`shape` is {self.shape}; it needs three sides.")
        largest = max(self.head.scale)
        needed = [-(-side * largest // self.spacing_mm) for side in _HEAD_MM]
        if any(have < need for have, need in zip(self.shape, needed, strict=True)):
            have = "x".join(str(side) for side in self.shape)
            need = "x".join(f"{side:.0f}" for side in needed)
            raise ValueError(
                f"a volume of {have} voxels of {self.spacing_mm:g} mm does not hold a "
                f"head, which needs {need}: use more or larger voxels."
            )


def make_recipe(
    arm: str = "glioma",
    shape: Shape = (192, 192, 192),
    spacing_mm: float = 1.0,
    satellites: int = 0,
) -> Recipe:
    """Make the recipe of an arm.

    Args:
        arm: One of `ARMS`.
        shape: Voxels right, anterior and superior.
        spacing_mm: Side of a voxel.
        satellites: Most satellites of a tumour in the arm `glioma`, 0 to 3. Those of
            `multifocal` are its foci.

    Returns:
        The recipe.

    Raises:
        ValueError: If a value does not fit. See `Recipe`.

    Example:
        >>> make_recipe("multifocal", (96, 96, 96), 2.0).foci.far_mm
        60.0
    """
    if not 0 <= satellites <= _MOST_SATELLITES:
        raise ValueError(
            f"`satellites` is {satellites}; it needs to be 0 to {_MOST_SATELLITES}."
        )
    if satellites and arm != "glioma":
        raise ValueError(
            f"`satellites` is for the arm glioma alone; {arm} decides by itself."
        )
    recipe = Recipe(arm, shape, spacing_mm)
    if arm == "glioma":
        return replace(
            recipe, satellites=replace(recipe.satellites, count=(0, satellites))
        )
    if arm == "parcellation":
        return replace(recipe, head=ShapeRanges(rotation_degrees=30.0))
    return replace(
        recipe,
        tumour=TumourRanges(
            absent=0.25,
            non_enhancing=1 / 3,  # Of the others: a quarter of all.
            diffuse=0.0,
            extent_mm=(45.0, 80.0),
            lump_mm=(7.0, 12.0),
        ),
        foci=FociRanges((1, 4), (9.0, 18.0), far_mm=60.0),
        caps=0.0,
    )
