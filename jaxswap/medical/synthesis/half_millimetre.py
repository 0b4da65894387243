"""A real head of 0.5 mm with 32 labels of left and right structures.

The T1 template (339 x 411 x 339) and the labels are data of the package deepmriprep.
When they are needed, pip downloads the package's file, and they are read from it. The
package is not installed, and nothing of it is part of jaxswap.
"""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy import ndimage

from jaxswap.medical.data.label_maps import LabelMap, make_label_map
from jaxswap.medical.data.volumes import Volume, VolumeError, load_volume
from jaxswap.medical.data.writing import whole_file

PACKAGE = "deepmriprep==0.3.0"
"""The package that pip downloads."""

WHEEL_SHA256 = "00cfaab3e4e1744e7d3844cdad1b096af2c06edbae73d683facc9435b835b8bd"
"""Digest of the package's file."""

_FOLDER = "deepmriprep/data/templates"
_IMAGE, _LABELS, _NAMES = "Template_05mm_bet.nii.gz", "ibsr.nii.gz", "ibsr.csv"
_FILES = (_IMAGE, _LABELS, _NAMES)
_LEAST_OVERLAP = 0.8  # Of labels and brain. The true overlap is 0.94.
_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Atlas:
    """An image with anatomical labels.

    Attributes:
        image: The image, RAS+. 0 outside the brain.
        labels: Labels of each voxel, uint8, same shape as `image.data`.
        label_map: Their names, numbered from 1 on. No two labels overlap.
    """

    image: Volume
    labels: np.ndarray
    label_map: LabelMap


def fetch_templates(folder: Path) -> Atlas:
    """Return the head of 0.5 mm. Download it if `folder` does not have it yet.

    Args:
        folder: Folder of the three files, 12 MB.

    Returns:
        The head with its labels, resampled onto the image's grid.

    Raises:
        ConnectionError: If pip cannot download the package.
        ValueError: If what was downloaded, or what is in the folder, is damaged or of
            another kind.
    """
    if not has_templates(folder):
        with TemporaryDirectory() as temporary:
            extract_templates(_download(Path(temporary)), folder, WHEEL_SHA256)
    return load_templates(folder)


def has_templates(folder: Path) -> bool:
    """Tell whether a folder has all files that `load_templates` reads.

    Args:
        folder: The folder. It may not exist.
    """
    return all((folder / name).is_file() for name in _FILES)


def extract_templates(wheel: Path, folder: Path, sha256: str | None) -> None:
    """Copy the three files from the package's file.

    Args:
        wheel: The package's file.
        folder: The folder to copy them to.
        sha256: The expected digest of the package's file. None for any.

    Raises:
        ValueError: If the digest differs or a file is missing. Then none is written.
    """
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if sha256 is not None and digest != sha256:
        raise ValueError(
            f"{wheel.name}: its SHA-256 is {digest}, expected {sha256}; it was damaged "
            "or exchanged on its way. Try again."
        )
    try:
        with zipfile.ZipFile(wheel) as package:
            contents = {name: package.read(f"{_FOLDER}/{name}") for name in _FILES}
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"{wheel.name}: the templates are not in it: {error}"
        ) from error
    for name, content in contents.items():
        with whole_file(folder / name) as temporary:
            temporary.write_bytes(content)


def load_templates(folder: Path) -> Atlas:
    """Read the head of 0.5 mm from a folder that `fetch_templates` has filled.

    Args:
        folder: The folder.

    Returns:
        The head with its labels, resampled onto the image's grid.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be read, or if the files do not fit together.
    """
    return label_image(load_volume(folder / _IMAGE), folder)


def label_image(image: Volume, folder: Path) -> Atlas:
    """Put the labels of a folder on the grid of an image in the same space.

    Args:
        image: The image. 0 outside the brain.
        folder: Folder of the labels and their names.

    Returns:
        The image with its labels. Each voxel has that of the nearest labeled voxel.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If labels and image do not overlap, or a label has no name.
    """
    values, label_map = _read_names(folder / _NAMES)
    atlas = load_volume(folder / _LABELS)
    onto_atlas = np.linalg.inv(atlas.affine) @ image.affine
    original = np.empty(image.data.shape, np.uint8)
    ndimage.affine_transform(
        atlas.data.astype(np.uint8), onto_atlas, output=original, order=0
    )
    unknown = sorted(set(np.unique(original).tolist()) - {0, *values})
    if unknown:
        raise VolumeError(f"{folder / _LABELS}: label {unknown[0]} has no name.")
    numbers = np.zeros(256, np.uint8)
    numbers[values] = np.arange(1, len(values) + 1)
    labels = numbers[original]
    brain = image.data > 0
    overlap = np.count_nonzero(brain & (labels > 0)) / max(np.count_nonzero(labels), 1)
    if overlap < _LEAST_OVERLAP:
        raise VolumeError(
            f"{folder / _LABELS}: only {overlap:.0%} of the labels lie in the brain of "
            f"{image.path}; they are of another space."
        )
    return Atlas(image, np.where(brain, labels, 0).astype(np.uint8), label_map)


def mirrored_labels(label_map: LabelMap) -> np.ndarray:
    """Return what each label becomes when left and right are exchanged.

    Args:
        label_map: Labels whose names may begin with "Left " or "Right ".

    Returns:
        The new value of each value 0..255, uint8, (256,).

    Raises:
        ValueError: If one side of a pair is missing.

    Example:
        >>> from jaxswap.medical.data.label_maps import make_label_map
        >>> pair = make_label_map("pair", {"Left Caudate": 1, "Right Caudate": 2})
        >>> mirrored_labels(pair)[:4]
        array([0, 2, 1, 3], dtype=uint8)
    """
    table = np.arange(256, dtype=np.uint8)
    for name, value in label_map.labels.items():
        for side, other in (("Left ", "Right "), ("Right ", "Left ")):
            if not name.startswith(side):
                continue
            partner = other + name.removeprefix(side)
            if partner not in label_map.labels:
                raise ValueError(f"{label_map.name}: {name!r} has no {partner!r}.")
            table[value] = label_map.labels[partner]
    return table


def _read_names(path: Path) -> tuple[list[int], LabelMap]:
    """Read the values in the label file, and the map that numbers them from 1."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), delimiter=";")
    try:
        named = sorted((int(row["ROIid"]), row["ROIname"]) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected columns ROIid and ROIname.") from error
    numbered = {name: number for number, (_, name) in enumerate(named, start=1)}
    return [value for value, _ in named], make_label_map("ibsr", numbered)


def _download(folder: Path) -> Path:
    """Download the package's file into a folder."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--no-input", "--disable-pip-version-check", "--only-binary=:all:"]
    command += ["--dest", str(folder), PACKAGE]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        said = done.stderr.strip().splitlines()
    except subprocess.TimeoutExpired:
        said = [f"it took more than {_TIMEOUT_SECONDS} seconds"]
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        why = next((line for line in said if line.startswith("ERROR")), "")
        why = why or (said[-1] if said else "it wrote nothing")
        raise ConnectionError(
            f"pip could not download {PACKAGE}, which has the labels: {why}"
        )
    return wheels[0]
