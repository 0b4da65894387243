"""Prepared cases on disk, so that files are decompressed and normalized once.

Each case has a folder with uncompressed arrays, which are mapped into memory. A JSON
file in it names the files and settings from which the arrays were made. If these have
changed, or if something is damaged, the folder is made again. It is complete or absent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal, TypedDict

import nibabel as nib
import numpy as np
from nibabel.wrapstruct import WrapStructError

from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.grid import Grid, Shape
from jaxswap.medical.data.plain_files import DAMAGE, read_json
from jaxswap.medical.data.writing import require_writable
from jaxswap.medical.preparing.preparing import PrepareConfig, Prepared, prepare_as

_FORMAT = 3  # Raise this if the same settings give other arrays.
_ENTRY, _IMAGE, _LABELS = "entry.json", "image.npy", "labels.npy"
# What NumPy and nibabel raise besides.
_DAMAGE = (*DAMAGE, SyntaxError, WrapStructError)


_SHAPES = ("ras_shape", "start", "cropped", "resampled", "before", "shape")
_Row = tuple[float, float, float, float]
_Affine = tuple[_Row, _Row, _Row, _Row]


class _StoredGrid(TypedDict):
    """A grid, see `Grid`. The header is in base64."""

    path: str | None
    file_affine: _Affine
    file_header: str
    ras_affine: _Affine
    ras_shape: Shape
    start: Shape
    cropped: Shape
    resampled: Shape
    before: Shape
    shape: Shape


class _Entry(TypedDict):
    """What was kept, and what it was made of."""

    fingerprint: str
    name: str
    has_labels: bool
    bytes: Mapping[str, int]
    grid: _StoredGrid
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CacheConfig:
    """Where prepared cases are kept, and how.

    Attributes:
        folder: Folder of the cache. Several data sets and settings can share one.
        prepare: How cases are prepared.
        dtype: Number format of images on disk. float16 takes half the space. It rounds
            normalized intensities to about three digits.

    Raises:
        ValueError: If `folder` cannot be written to, or if `dtype` is another format.
    """

    folder: Path
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    dtype: Literal["float16", "float32"] = "float16"

    def __post_init__(self) -> None:
        if self.dtype not in ("float16", "float32"):
            raise ValueError(f"`dtype` is {self.dtype!r}, not float16 or float32.")
        require_writable(self.folder)


def prepare_cached(case: CaseFiles, dataset: Dataset, config: CacheConfig) -> Prepared:
    """Return a prepared case from the cache. If it is missing, prepare and keep it.

    Args:
        case: Files of the case.
        dataset: The data set it belongs to.
        config: Where to keep cases, and how to prepare them.

    Returns:
        The case. Its arrays are mapped from disk and read-only. Its image has the
        cache's number format.

    Raises:
        FileNotFoundError: If a file of the case is missing.
        ValueError: If the case cannot be prepared. See `preparing.prepare`.
    """
    fingerprint = _fingerprint(case, dataset, config)
    folder = _folder(case, dataset, config)
    kept = _open(folder, fingerprint)
    if kept is not None:
        return kept
    _keep(prepare_as(case, dataset, config.prepare), folder, fingerprint, config)
    made = _open(folder, fingerprint)
    if made is None:
        raise OSError(f"{folder}: what was just written cannot be read back.")
    return made


def prepare_all(
    cases: Sequence[CaseFiles],
    dataset: Dataset,
    config: CacheConfig,
    *,
    workers: int = 4,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Prepared, ...]:
    """Prepare several cases at a time, or take them from the cache.

    Args:
        cases: Cases of the data set.
        dataset: The data set.
        config: Where to keep cases, and how to prepare them.
        workers: Cases to prepare at the same time. Each needs memory for its channels.
        advance: Called after each case.

    Returns:
        The prepared cases, in order. See `prepare_cached`.

    Raises:
        ValueError, FileNotFoundError: For the first case that cannot be prepared.
    """
    if workers < 1:
        raise ValueError(f"`workers` is {workers}, not 1 or more.")

    def make(case: CaseFiles) -> Prepared:
        prepared = prepare_cached(case, dataset, config)
        advance()
        return prepared

    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(make, case) for case in cases]
        try:
            return tuple(future.result() for future in waiting)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _folder(case: CaseFiles, dataset: Dataset, config: CacheConfig) -> Path:
    """Return the folder of a case and settings. It stays when a file changes."""
    settings = {
        "files": [str(path.resolve()) for path in case.files],
        "channels": dataset.channels,
        "prepare": asdict(config.prepare),
        "dtype": config.dtype,
    }
    return config.folder / f"{case.name}-{_hash(settings)[:12]}"


def _fingerprint(case: CaseFiles, dataset: Dataset, config: CacheConfig) -> str:
    label_map = dataset.label_map
    return _hash(
        {
            "format": _FORMAT,
            "sources": [(str(s.path.resolve()), s.index) for s in case.images],
            "labels": None if case.labels is None else str(case.labels.resolve()),
            "files": [_state_of(path) for path in case.files],
            "channels": dataset.channels,
            "values": None if label_map is None else label_map.values,
            "aliases": None if label_map is None else dict(label_map.aliases),
            "prepare": asdict(config.prepare),
            "dtype": config.dtype,
        }
    )


def _state_of(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file.") from error
    return state.st_size, state.st_mtime_ns


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _keep(
    prepared: Prepared, folder: Path, fingerprint: str, config: CacheConfig
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        _save(fresh / _IMAGE, prepared.image.astype(config.dtype))
        if prepared.labels is not None:
            _save(fresh / _LABELS, prepared.labels)
        entry = {
            "fingerprint": fingerprint,
            "name": prepared.name,
            "has_labels": prepared.labels is not None,
            "bytes": {
                file.name: file.stat().st_size for file in sorted(fresh.iterdir())
            },
            "grid": _grid_to_json(prepared.grid),
            "notes": prepared.notes,
        }
        (fresh / _ENTRY).write_text(json.dumps(entry, indent=1), encoding="utf-8")
        _put_in_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())  # A power cut may else leave zeros of the right size.


def _put_in_place(fresh: Path, folder: Path) -> None:
    """Rename a folder. An older one is moved away first and then removed."""
    if folder.exists():
        old = Path(mkdtemp(prefix=".removing-", dir=folder.parent))
        os.replace(folder, old / folder.name)
        shutil.rmtree(old, ignore_errors=True)
    try:
        os.replace(fresh, folder)
    except OSError:
        if not folder.is_dir():
            raise  # Otherwise another process was faster, with the same content.


def _open(folder: Path, fingerprint: str) -> Prepared | None:
    """Open what is kept. None if it is missing, outdated or damaged."""
    if not folder.exists():
        return None
    try:
        entry: _Entry = read_json(folder / _ENTRY, _Entry)
        if entry["fingerprint"] != fingerprint:
            return None
        for name, size in entry["bytes"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} has not the {size} bytes that were written")
        grid = _grid_of(entry["grid"])
        image = np.load(folder / _IMAGE, mmap_mode="r")
        labels = None
        if entry["has_labels"]:
            labels = np.load(folder / _LABELS, mmap_mode="r")
        return Prepared(entry["name"], image, labels, grid, entry["notes"])
    except _DAMAGE as error:
        message = f"{folder} is damaged ({error}). The case is prepared anew."
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return None


def _grid_to_json(grid: Grid) -> dict[str, Any]:
    return {
        "path": None if grid.path is None else str(grid.path),
        "file_affine": grid.file_affine.tolist(),
        "file_header": base64.b64encode(grid.file_header.binaryblock).decode(),
        "ras_affine": grid.ras_affine.tolist(),
        **{name: list(getattr(grid, name)) for name in _SHAPES},
    }


def _grid_of(stored: _StoredGrid) -> Grid:
    path, header = stored["path"], base64.b64decode(stored["file_header"])
    return Grid(
        path=None if path is None else Path(path),
        file_affine=np.array(stored["file_affine"]),
        file_header=nib.Nifti1Header(header, check=False),
        ras_affine=np.array(stored["ras_affine"]),
        **{name: stored[name] for name in _SHAPES},
    )
