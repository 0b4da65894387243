"""Tiny data sets in every layout, made on disk for tests.

Every case is the same kind of head: a box of noise above zero, one corner missing, in a
background of 0, with nested labels in its middle.
"""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (12, 14, 10)
OLD = ("_t1", "_t1ce", "_t2", "_flair")
NEW = ("-t1n", "-t1c", "-t2w", "-t2f")
AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])


def head(seed=0, shape=SHAPE):
    """Intensities of one channel: noise in a box, 0 around it."""
    image = np.zeros(shape, np.int16)
    inside = tuple(slice(2, n - 1) for n in shape)
    box = image[inside]
    image[inside] = np.random.default_rng(seed).integers(100, 1000, box.shape)
    image[2:4, 2:4, 2:4] = 0
    return image


def tumour(values=(2, 1, 4), shape=SHAPE):
    """Nested labels: outermost value first."""
    labels = np.zeros(shape, np.uint8)
    for margin, value in zip((4, 5, 6), values, strict=False):
        labels[margin:-4, margin:-4, 4:6] = value
    return labels


def write(path, data, affine=AFFINE, kind=nib.Nifti1Image):
    """Writes a volume, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(kind(data, affine), path)
    return path


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def brats_case(folder, name, suffixes=OLD, values=(2, 1, 4), ending=".nii.gz", seed=0):
    """One case folder of BraTS; `values=None` leaves out the labels."""
    for index, suffix in enumerate(suffixes):
        write(folder / name / f"{name}{suffix}{ending}", head(10 * seed + index))
    if values is not None:
        seg = f"{suffixes[0][0]}seg"
        write(folder / name / f"{name}{seg}{ending}", tumour(values))
    return folder / name


def brats(root, names, suffixes=OLD, values=(2, 1, 4)):
    for seed, name in enumerate(names):
        brats_case(root, name, suffixes, values, seed=seed)
    return root


def decathlon(root, cases=2, modality=("FLAIR", "T1w", "t1gd", "T2w"), labels=None):
    """Task01 of the decathlon, by default; channel c holds `head(c)`."""
    labels = labels or {
        "0": "background",
        "1": "edema",
        "2": "non-enhancing tumor",
        "3": "enhancing tumour",
    }
    image = np.stack([head(c) for c in range(len(modality))], axis=-1)
    entries = []
    for number in range(1, cases + 1):
        file = f"BRATS_{number:03d}.nii.gz"
        write(root / "imagesTr" / file, image if len(modality) > 1 else image[..., 0])
        write(root / "labelsTr" / file, tumour((1, 2, 3)))
        entries.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    write(root / "imagesTs" / "BRATS_900.nii.gz", image)
    content = {
        "name": "BRATS",
        "tensorImageSize": "4D",
        "modality": {str(i): name for i, name in enumerate(modality)},
        "labels": labels,
        "numTraining": cases,
        "numTest": 1,
        "training": entries,
        "test": ["./imagesTs/BRATS_900.nii.gz"],
    }
    write_json(root / "dataset.json", content)
    return root


NNUNET_REGIONS = {
    "background": 0,
    "whole_tumor": [1, 2, 3],
    "tumor_core": [2, 3],
    "enhancing_tumor": 3,
}


def nnunet(root, names=("a", "b"), channels=("T1", "T1ce", "T2", "Flair"), **content):
    """A raw folder of nnU-Net v2; `content` replaces entries of dataset.json."""
    for name in names:
        for index in range(len(channels)):
            write(root / "imagesTr" / f"{name}_{index:04d}.nii.gz", head(index))
        write(root / "labelsTr" / f"{name}.nii.gz", tumour((1, 2, 3)))
    described = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": NNUNET_REGIONS,
        "regions_class_order": [1, 2, 3],
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    write_json(root / "dataset.json", described | content)
    return root


def files_of(root) -> list[Path]:
    """Every file below a folder."""
    return sorted(path for path in Path(root).rglob("*") if path.is_file())
