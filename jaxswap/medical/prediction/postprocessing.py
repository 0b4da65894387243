"""What is removed from predicted labels: pieces, and regions that are too small.

It is chosen on the validation cases of a run, region by region, where it raises the
mean Dice. It is recorded in the run, and used in its predictions.

References:
    Isensee et al. 2021, nnU-Net: a self-configuring method for deep learning-based
    biomedical image segmentation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.runs.record import load_record

_TOUCHING = ndimage.generate_binary_structure(3, 3)  # By a face, an edge or a corner.
_MM3_PER_ML = 1000.0
_LEAST_GAIN = 1e-3  # In mean Dice. Less is chance.


@dataclass(frozen=True)
class RegionRule:
    """What is removed from one region.

    Attributes:
        is_largest_kept: Whether only the largest piece is kept.
        smallest_ml: The region is removed if it has a smaller volume.
    """

    is_largest_kept: bool = False
    smallest_ml: float = 0.0

    def __str__(self) -> str:
        """Say what is removed."""
        parts = ["all but its largest piece"] if self.is_largest_kept else []
        if self.smallest_ml:
            parts.append(f"if it has less than {self.smallest_ml:g} mL")
        return ", and ".join(parts) or "nothing"


@dataclass(frozen=True)
class Postprocessing:
    """What is removed from predicted labels.

    Attributes:
        rules: Rules by region. Regions without one stay as they are.
        dice: Mean Dice of those regions on the validation cases, before and after.
        cases: Names of these cases.
    """

    rules: Mapping[str, RegionRule] = field(default_factory=dict)
    dice: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    cases: tuple[str, ...] = ()

    def apply(
        self, labels: np.ndarray, label_map: LabelMap, voxel_mm3: float
    ) -> np.ndarray:
        """Remove what the rules say.

        What is removed from a region is removed from the regions inside it, too.
        What is left of those around it stays.

        Args:
            labels: Values of `label_map`, uint8, (x, y, z).
            label_map: The regions.
            voxel_mm3: Volume of a voxel.

        Returns:
            Labels, uint8, (x, y, z).
        """
        if not any(rule != RegionRule() for rule in self.rules.values()):
            return labels
        kept: dict[str, np.ndarray] = {}
        for region, values in label_map.regions.items():
            mask = np.isin(labels, values)
            for outer, mask_outer in kept.items():
                if set(values) <= set(label_map.regions[outer]):
                    mask &= mask_outer
            kept[region] = _kept(mask, self.rules.get(region, RegionRule()), voxel_mm3)
        return label_map.to_labels(np.stack(list(kept.values()), axis=-1))

    def describe(self) -> list[str]:
        """Return one line for each region from which something is removed."""
        lines = []
        for region, rule in self.rules.items():
            told = f"{region}: removed {rule}"
            if region in self.dice:
                before, after = self.dice[region]
                told += (
                    f"; Dice {before:.3f}, then {after:.3f} on {len(self.cases)} "
                    "validation cases"
                )
            lines.append(told)
        return lines

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        with whole_file(path) as temporary:
            temporary.write_text(
                json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8"
            )


@dataclass(frozen=True)
class RegionOutcome:
    """How a predicted region of a case compares with its reference.

    Attributes:
        volume_ml: Volume of the region.
        largest_ml: Volume of its largest piece.
        dice: Dice of the region.
        largest_dice: Dice of its largest piece alone.
        empty_dice: Dice if the region were removed.
    """

    volume_ml: float
    largest_ml: float
    dice: float
    largest_dice: float
    empty_dice: float

    def dice_with(self, rule: RegionRule) -> float:
        """Return the Dice after a rule."""
        volume_ml, dice = self.volume_ml, self.dice
        if rule.is_largest_kept:
            volume_ml, dice = self.largest_ml, self.largest_dice
        return self.empty_dice if volume_ml < rule.smallest_ml else dice


CANDIDATES = tuple(
    RegionRule(is_largest_kept, smallest_ml)
    for smallest_ml in (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    for is_largest_kept in (False, True)
)
"""The rules that are tried, the mildest first."""


def compare_regions(
    predicted: np.ndarray, reference: np.ndarray, label_map: LabelMap, voxel_mm3: float
) -> dict[str, RegionOutcome]:
    """Measure what `choose` needs to know of a case.

    Args:
        predicted: Labels, uint8, (x, y, z), before any post-processing.
        reference: Labels, same shape.
        label_map: What they mean.
        voxel_mm3: Volume of a voxel.

    Returns:
        One outcome for each region.
    """
    voxel_ml = voxel_mm3 / _MM3_PER_ML
    outcomes = {}
    for region, values in label_map.regions.items():
        mask, truth = np.isin(predicted, values), np.isin(reference, values)
        largest = _largest(mask)
        outcomes[region] = RegionOutcome(
            int(mask.sum()) * voxel_ml,
            int(largest.sum()) * voxel_ml,
            _dice(mask, truth),
            _dice(largest, truth),
            0.0 if truth.any() else 1.0,
        )
    return outcomes


def choose(cases: Mapping[str, Mapping[str, RegionOutcome]]) -> Postprocessing:
    """Choose for each region the rule with the highest mean Dice.

    Args:
        cases: Outcomes by case and region.

    Returns:
        Rules of the regions whose Dice they raise by a thousandth or more.
    """
    rules, dice = {}, {}
    regions = next(iter(cases.values()), {})
    for region in regions:
        outcomes = [case[region] for case in cases.values()]
        means = {
            rule: float(np.mean([outcome.dice_with(rule) for outcome in outcomes]))
            for rule in CANDIDATES
        }
        best = max(means, key=lambda rule: means[rule])  # The mildest of equals.
        if means[best] >= means[RegionRule()] + _LEAST_GAIN:
            rules[region] = best
            dice[region] = (means[RegionRule()], means[best])
    return Postprocessing(rules, dice, tuple(cases))


def load_postprocessing(path: Path) -> Postprocessing | None:
    """Read what `Postprocessing.save` wrote. None if there is no such file.

    Raises:
        ValueError: If the file is damaged.
    """
    return load_record(path, Postprocessing)


def common_rules(found: Sequence[Postprocessing | None]) -> Postprocessing:
    """Return the rules that several runs agree on, for the mean of their networks.

    Args:
        found: What each run recorded.
    """
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return Postprocessing()
    if len(known) == 1:
        return known[0]
    rules = {}
    for region in known[0].rules:
        of_all = [one.rules.get(region, RegionRule()) for one in known]
        rule = RegionRule(
            all(one.is_largest_kept for one in of_all),
            min(one.smallest_ml for one in of_all),
        )
        if rule != RegionRule():
            rules[region] = rule
    return Postprocessing(rules)


def _kept(mask: np.ndarray, rule: RegionRule, voxel_mm3: float) -> np.ndarray:
    kept = _largest(mask) if rule.is_largest_kept else mask
    if int(kept.sum()) * voxel_mm3 / _MM3_PER_ML < rule.smallest_ml:
        return np.zeros_like(mask)
    return kept


def _largest(mask: np.ndarray) -> np.ndarray:
    pieces = np.empty(mask.shape, np.int32)
    ndimage.label(mask, _TOUCHING, output=pieces)
    sizes = np.bincount(pieces.ravel())
    if len(sizes) < 3:
        return mask
    sizes[0] = 0
    return pieces == int(sizes.argmax())


def _dice(mask: np.ndarray, truth: np.ndarray) -> float:
    both = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / both if both else 1.0
