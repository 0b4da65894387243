"""How do the scores of `jaxswap evaluate` differ from those of the tools people know?

python -m benchmarks.scores --brats FOLDER PYTHON    measure
python -m benchmarks.scores --table                  the results as a table

Synthetic tumours and predictions of them are scored by all tools. It needs monai,
medpy, surface-distance and nnunetv2. FOLDER is a checkout of BraTS's own code
(BraTS-2023-Metrics), and PYTHON one that has the versions which that code asks for.
"""

import argparse
import importlib
import json
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from benchmarks import harness
from jaxswap.medical.scoring.lesion_scores import CHALLENGES
from jaxswap.medical.scoring.metrics import region_metrics

OUTPUT = harness.RESULTS / "scores.jsonl"
SHAPE = (96, 96, 64)
SPACINGS = {"1 mm": (1.0, 1.0, 1.0), "1 x 1 x 3 mm": (1.0, 1.0, 3.0)}
ROUGHNESS = {"good": 0.25, "poor": 0.8}
TOLERANCE_MM = 1.0
PAIRS = 10  # Of each spacing and roughness.
TOOLS = ("monai", "medpy", "surface-distance", "nnunetv2")


def main(arguments: list[str] | None = None) -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(prog="benchmarks.scores", description=__doc__)
    parser.add_argument(
        "--brats", nargs=2, metavar=("FOLDER", "PYTHON"), help="its code"
    )
    parser.add_argument("--table", action="store_true", help="show what was measured")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    if options.table:
        print(table(options.output))
        return
    for spacing_name, spacing in SPACINGS.items():
        for quality, roughness in ROUGHNESS.items():
            for seed in range(PAIRS):
                reference, prediction = masks(seed, roughness)
                row: dict[str, Any] = {"spacing": spacing_name, "quality": quality}
                row["tools"] = {name: harness.version_of(name) for name in TOOLS}
                row |= {"seed": seed, "scores": {}}
                for name, value in scores(reference, prediction, spacing, options):
                    row["scores"][name] = float(value)
                harness.record(row, options.output)


def masks(seed: int, roughness: float) -> tuple[np.ndarray, np.ndarray]:
    """Make a tumour with satellites, and a prediction: its surface shifted by noise."""
    draw = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(draw.normal(size=SHAPE), 7)
    noise = ndimage.gaussian_filter(draw.normal(size=SHAPE), 3)
    field, noise = field / field.std(), noise / noise.std()
    return field > 1.6, field + roughness * noise > 1.6


def scores(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing: tuple[float, float, float],
    options: argparse.Namespace,
) -> Iterator[tuple[str, float]]:
    """Yield each score of each tool."""
    rules = CHALLENGES["brats2023-gli"]
    ours = region_metrics(reference, prediction, spacing, TOLERANCE_MM, rules)
    yield "Dice jaxswap", ours.dice
    yield "HD95 jaxswap", ours.hd95_mm
    yield "surface Dice jaxswap", ours.surface_dice
    yield "lesion Dice jaxswap", ours.lesions.dice
    yield "lesion HD95 jaxswap", ours.lesions.hd95_mm
    yield from _surface_distance(reference, prediction, spacing)
    yield from _monai(reference, prediction, spacing)
    hd95: Any = importlib.import_module("medpy.metric.binary").hd95
    yield "HD95 MedPy", hd95(prediction, reference, spacing)
    with tempfile.TemporaryDirectory() as folder:
        files = _write(pathlib.Path(folder), reference, prediction, spacing)
        yield "Dice nnU-Net", _nnunet_dice(*files)
        if options.brats is not None:
            code, python = options.brats
            yield from _brats(code, python, *files)


def _surface_distance(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]
) -> Iterator[tuple[str, float]]:
    tool: Any = importlib.import_module("surface_distance")
    distances = tool.compute_surface_distances(reference, prediction, spacing)
    yield "HD95 surface-distance", tool.compute_robust_hausdorff(distances, 95)
    share = tool.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)
    yield "surface Dice surface-distance", share


def _monai(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]
) -> Iterator[tuple[str, float]]:
    torch: Any = importlib.import_module("torch")
    tool: Any = importlib.import_module("monai.metrics")
    pair = [torch.tensor(m[None, None]).float() for m in (prediction, reference)]
    yield "Dice MONAI", tool.compute_dice(*pair)
    far = tool.compute_hausdorff_distance(
        *pair, include_background=True, percentile=95, spacing=spacing
    )
    yield "HD95 MONAI", far
    for name, is_fine in (("MONAI", False), ("MONAI, subvoxels", True)):
        share = tool.compute_surface_dice(
            *pair,
            [TOLERANCE_MM],
            include_background=True,
            spacing=spacing,
            use_subvoxels=is_fine,
        )
        yield f"surface Dice {name}", share


def _write(
    folder: pathlib.Path, *masks_and_spacing: Any
) -> tuple[pathlib.Path, pathlib.Path]:
    """Write reference and prediction as enhancing tumour of BraTS."""
    *masks_, spacing = masks_and_spacing
    paths = folder / "reference.nii.gz", folder / "prediction.nii.gz"
    for path, mask in zip(paths, masks_, strict=True):
        image = nib.Nifti1Image(3 * mask.astype(np.uint8), np.diag([*spacing, 1.0]))
        nib.save(image, path)
    return paths


def _nnunet_dice(reference: pathlib.Path, prediction: pathlib.Path) -> float:
    base = "nnunetv2.evaluation.evaluate_predictions"
    compute: Any = importlib.import_module(base).compute_metrics
    reader: Any = importlib.import_module("nnunetv2.imageio.simpleitk_reader_writer")
    found = compute(str(reference), str(prediction), reader.SimpleITKIO(), [3])
    return found["metrics"][3]["Dice"]


def _brats(
    code: str, python: str, reference: pathlib.Path, prediction: pathlib.Path
) -> Iterator[tuple[str, float]]:
    """Run BraTS's code. Its folder comes first on the path of a process of its own."""
    program = (
        "import sys, metrics; found = metrics.get_LesionWiseResults(*sys.argv[1:]); "
        "sys.stdout.write(found[found['Labels'] == 'ET'].to_json(orient='records'))"
    )
    command = [python, "-c", program, str(prediction), str(reference)]
    printed = subprocess.check_output([*command, "BraTS-GLI"], cwd=code)
    row = json.loads(printed.splitlines()[-1])[0]
    yield "Dice BraTS 2023", row["Legacy_Dice"]
    yield "HD95 BraTS 2023", row["Legacy_HD95"]
    yield "lesion Dice BraTS 2023", row["LesionWise_Score_Dice"]
    yield "lesion HD95 BraTS 2023", row["LesionWise_Score_HD95"]


def table(path: pathlib.Path = OUTPUT) -> str:
    """Return the mean of each score of each tool as a Markdown table."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    groups = list(dict.fromkeys((row["spacing"], row["quality"]) for row in rows))
    lines = [f"| score | {' | '.join(', '.join(group) for group in groups)} |"]
    lines.append("|---|" + "---:|" * len(groups))
    for name in sorted(rows[0]["scores"]):
        cells = []
        for group in groups:
            mine = [r for r in rows if (r["spacing"], r["quality"]) == group]
            cells.append(f"{np.mean([r['scores'][name] for r in mine]):.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
