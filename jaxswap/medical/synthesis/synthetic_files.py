"""Writing synthetic cases as data sets that other tools can read, too.

Cases with tumours have the layout of BraTS 2023, with a folder for each case.
Parcellations have that of a raw data set of nnU-Net v2, whose `dataset.json` names the
labels. In both, a case is complete or absent.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, ornt_transform

from jaxswap.medical.data.label_maps import LabelMap
from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.synthesis.synthetic_case import SyntheticCase

SUMMARY, TABLE = "synthesis.json", "cases.csv"
"""Files that say what a data set is made of, and list its cases."""


def synthetic_name(arm: str, index: int) -> str:
    """Return the name of a case.

    Example:
        >>> synthetic_name("glioma", 7), synthetic_name("parcellation", 7)
        ('BraTS-GLI-00007-000', 'MNI152_00007')
    """
    if arm == "parcellation":
        return f"MNI152_{index:05d}"
    return f"BraTS-GLI-{index:05d}-000"


def record_path(out: Path, arm: str, index: int) -> Path:
    """Return the path of a case's record."""
    name = synthetic_name(arm, index)
    folder = "records" if arm == "parcellation" else name
    return out / folder / f"{name}.json"


def is_whole(out: Path, arm: str, index: int) -> bool:
    """Tell whether all files of a case exist."""
    name = synthetic_name(arm, index)
    if arm == "parcellation":
        files = [f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"]
    else:
        suffixes = ("t1n", "t1c", "t2w", "t2f", "seg")
        files = [f"{name}/{name}-{suffix}.nii.gz" for suffix in suffixes]
    record = record_path(out, arm, index)
    return record.is_file() and all((out / file).is_file() for file in files)


def write_brats(out: Path, case: SyntheticCase, index: int) -> None:
    """Write a case as `NAME/NAME-t1c.nii.gz` and so on, labels as `NAME-seg.nii.gz`.

    The files are written into a folder whose name begins with a dot. It gets its own
    name when all of them are complete.

    Args:
        out: Folder of the data set.
        case: The case.
        index: Its number.
    """
    name = synthetic_name(case.record["arm"], index)
    for left in out.glob(f".writing-{name}*"):
        if not _is_running(left.suffix[1:]):  # Of a run that was killed.
            shutil.rmtree(left, ignore_errors=True)
    # Another process may draw the same case.
    temporary = out / f".writing-{name}.{os.getpid()}"
    temporary.mkdir(parents=True)
    try:
        for suffix, image in case.images.items():
            _save(temporary / f"{name}-{suffix}.nii.gz", image, case)
        _save(temporary / f"{name}-seg.nii.gz", case.labels, case)
        (temporary / f"{name}.json").write_text(
            _record_text(name, case), encoding="utf-8"
        )
        try:
            temporary.rename(out / name)
        except OSError:
            if not (out / name).is_dir():
                raise
            for file in temporary.iterdir():  # Some may be missing there.
                file.replace(out / name / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_running(process: str) -> bool:
    """Whether there is another process of that number on this machine."""
    if not process.isdecimal() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # Of another user.
    return True


def write_nnunet(out: Path, case: SyntheticCase, index: int) -> None:
    """Write a case into `imagesTr`, `records` and, last, `labelsTr`."""
    name = synthetic_name(case.record["arm"], index)
    for number, image in enumerate(case.images.values()):
        with whole_file(out / "imagesTr" / f"{name}_{number:04d}.nii.gz") as temporary:
            _save(temporary, image, case)
    with whole_file(out / "records" / f"{name}.json") as temporary:
        temporary.write_text(_record_text(name, case), encoding="utf-8")
    with whole_file(out / "labelsTr" / f"{name}.nii.gz") as temporary:
        _save(temporary, case.labels, case)


def write_dataset_json(
    out: Path, label_map: LabelMap, cases: int, statement: str
) -> None:
    """Write the description that nnU-Net v2 needs of a raw data set.

    Args:
        out: Folder of the data set.
        label_map: Names of the labels.
        cases: Number of cases.
        statement: What the cases are, in a sentence.
    """
    content = {
        "name": label_map.name,
        "description": statement,
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, **label_map.labels},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    with whole_file(out / "dataset.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_table(out: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write `cases.csv`, a line for each case. Lists and objects become columns.

    Args:
        out: Folder of the data set.
        records: Records of cases.

    Raises:
        ValueError: If one of them is damaged.
    """
    rows = [_row(out, record) for record in records]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (
        whole_file(out / TABLE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _save(path: Path, data: np.ndarray, case: SyntheticCase) -> None:
    image = nib.Nifti1Image(data, case.affine)
    turned = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(case.orientation))
    image = image.as_reoriented(turned.astype(int).tolist())
    image.set_data_dtype(data.dtype)
    image.header.set_xyzt_units("mm", "sec")
    for set_form in (image.set_qform, image.set_sform):
        set_form(image.affine, code=1)
    nib.save(image, path)


def _record_text(name: str, case: SyntheticCase) -> str:
    record = {"case": name, "orientation": case.orientation, **case.record}
    return json.dumps(record, indent=2) + "\n"


def _row(out: Path, record: dict[str, Any]) -> dict[str, Any]:
    try:
        return _flat(record)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{out}: the record of case {record.get('case')} is damaged ({error!r}). "
            "Remove the case, and it is drawn again."
        ) from error


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Pick what fits into a line. Foci and images are summed up."""
    row = {key: record[key] for key in ("case", "index", "arm", "orientation")}
    row |= {f"head_{key}": value for key, value in record["head"].items()}
    for key, value in record.get("tumour", {}).items():
        if key == "extent_mm":
            row |= dict(
                zip(("right_mm", "anterior_mm", "superior_mm"), value, strict=True)
            )
        elif key != "volume_ml":
            row[key] = value
    volumes = record.get("tumour", record)["volume_ml"]
    row |= {f"ml_{label}": round(volume, 4) for label, volume in volumes.items()}
    if "foci" in record:
        foci = record["foci"]
        distances = [f["to_core_mm"] for f in foci if f["to_core_mm"] is not None]
        row["foci"] = len(foci)
        row["tumour_foci"] = sum(focus["is_tumour"] for focus in foci)
        row["satellites"] = sum(focus["kind"] == "satellite" for focus in foci)
        row["nearest_focus_mm"] = min(distances, default=None)
        row["farthest_focus_mm"] = max(distances, default=None)
    return row
