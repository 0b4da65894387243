"""Checkpoints of a training run: the latest two, and the best two.

A checkpoint is complete or absent, whatever ends the process. When it is read, it is
compared with checksums. If it is damaged, the one before it is used. The files are in
Orbax's format. Several processes write a checkpoint together, into a folder that all of
them see. Any number of processes can read it.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding

from jaxswap import JaxswapError
from jaxswap.extend import parse_plain, read_as
from jaxswap.medical.data.memory import require_memory
from jaxswap.medical.data.plain_files import DAMAGE, read_json
from jaxswap.medical.preparing.mesh import place_replicated
from jaxswap.medical.runs.processes import is_first, wait_for_all
from jaxswap.medical.runs.state import Parameters, State

Which = Literal["best", "latest"]
Extra = dict[str, Any]

_KEPT = 2
_UNFINISHED = ".writing-"
_ARRAYS, _RECORD = "arrays", "record.json"
_CHUNK_BYTES = 2**24


class CheckpointError(JaxswapError, ValueError):
    """No checkpoint of a folder can be used. The message says why."""


class Checkpoints:
    """Checkpoints in one folder, which is made when the first one is saved.

    Attributes:
        folder: Contains the folders `latest` and `best`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()

    def save_latest(self, state: State, extra: Mapping[str, Any]) -> None:
        """Save a checkpoint to resume from, and remove all but the last two.

        Args:
            state: The training state.
            extra: What else to keep. It must be valid JSON: numbers, texts, lists and
                dictionaries with texts as keys.

        Raises:
            ValueError: If `extra` is not valid JSON. Then nothing is written.
        """
        _save(self.folder / "latest", state, extra)

    def save_best(self, state: State, extra: Mapping[str, Any]) -> None:
        """Save the best checkpoint so far. See `save_latest`."""
        _save(self.folder / "best", state, extra)

    def restore_latest(self, like: State) -> tuple[State, Extra] | None:
        """Read the last complete checkpoint.

        Args:
            like: A state of the same structure. Every array is put where its
                counterpart here is, pinned host memory included.

        Returns:
            The state, bit-equal to what was saved, and `extra`. None if nothing was
            saved.

        Raises:
            CheckpointError: If names, shapes or dtypes differ from those of `like`, or
                if there are checkpoints but none can be read.
        """
        return _restore(self.folder / "latest", like)

    def require_same(self, like: State) -> None:
        """Compare the arrays of the last checkpoint with a state. Read none of them.

        A record that cannot be read is left to `restore_latest`.

        Args:
            like: A state, or the types of its arrays.

        Raises:
            CheckpointError: If names, shapes or dtypes differ from those of `like`.
        """
        for number in reversed(_numbers(self.folder / "latest")):
            place = self.folder / "latest" / str(number)
            try:
                types = _types(_record(read_json(place / _RECORD, _Stored)))
            except DAMAGE:
                continue
            return _check_same(_StoredCheckpoint(place, types, {}), _named(like))


def restore_parameters(
    folder: str | Path, which: Which = "best"
) -> tuple[Parameters, Extra]:
    """Read the parameters to predict with. How they were trained need not be known.

    Args:
        folder: Folder of the checkpoints.
        which: "best" or "latest".

    Returns:
        Parameters as nested dictionaries on the default device, and `extra`. The
        parameters are the moving average if there is one (as in `State.evaluated`).

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        CheckpointError: If none of them can be read.
        ValueError: If `which` is another word.
    """
    if which not in ("best", "latest"):
        raise ValueError(f"`which` is {which!r}; choose best or latest.")
    place = Path(folder).absolute() / which
    for saved in _whole_checkpoints(place):
        for field in ("average", "parameters"):
            chosen = {path: x for path, x in saved.arrays.items() if path[0] == field}
            if chosen:
                return jax.device_put(_nest(chosen)[field]), saved.extra
    raise FileNotFoundError(
        f"{place}: holds no checkpoint; give the folder of a run that has saved one."
    )


Name = tuple[str, ...]


class _StoredCheckpoint(NamedTuple):
    """A checkpoint as it was read.

    Attributes:
        folder: Its folder.
        arrays: Host arrays, or their types, by the names on the path to them.
        extra: What was saved besides the state.
    """

    folder: Path
    arrays: dict[Name, Any]
    extra: Extra


class _Stored(TypedDict):
    """What lies beside the arrays: their description, and a checksum of each file."""

    record: str
    checksums: Mapping[str, int]


class _Record(TypedDict):
    """What was saved besides the state, and names, shapes and dtypes of the arrays."""

    extra: Mapping[str, Any]
    arrays: tuple[tuple[Name, tuple[int, ...], str], ...]


def _save(folder: Path, state: State, extra: Mapping[str, Any]) -> None:
    # Several processes write what each of them holds. A single one writes all it has.
    is_alone = jax.process_count() == 1
    arrays = {
        name: np.asarray(x) if is_alone else x for name, x in _named(state).items()
    }
    described = [[name, x.shape, x.dtype.name] for name, x in arrays.items()]
    try:
        record = json.dumps({"extra": extra, "arrays": described})
    except (TypeError, ValueError) as error:
        raise ValueError(f"`extra` cannot be saved as JSON: {error}.") from error
    temporary = folder / f"{_UNFINISHED}{os.getpid() if is_alone else 'together'}"
    if is_first():
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{_UNFINISHED}*"):  # By a process that was killed.
            shutil.rmtree(left)
    wait_for_all("making the folder of checkpoints")
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            save = ocp.args.StandardSave(_nest(arrays))
            checkpointer.save(temporary / _ARRAYS, args=save)
        if is_first():
            _finish(folder, temporary, record)
    finally:
        if is_first():
            shutil.rmtree(temporary, ignore_errors=True)
    wait_for_all("finishing a checkpoint")


def _finish(folder: Path, temporary: Path, record: str) -> None:
    """Note what was written and give it its number. Remove the oldest."""
    numbers = _numbers(folder)
    checksums = {name: _checksum(temporary / name) for name in _files(temporary)}
    checksums[_RECORD] = zlib.crc32(record.encode())
    content = {"record": record, "checksums": checksums}
    (temporary / _RECORD).write_text(json.dumps(content), encoding="utf-8")
    # Checkpoints are counted. The step would not do as a name: after a resume from the
    # checkpoint before a damaged one, the same step comes again.
    temporary.rename(folder / str(max(numbers, default=-1) + 1))
    for number in numbers[: 1 - _KEPT]:
        # Renamed first, so that half a checkpoint never has its number.
        (folder / str(number)).rename(temporary)
        shutil.rmtree(temporary)


def _restore(folder: Path, like: State) -> tuple[State, Extra] | None:
    for saved in _whole_checkpoints(folder):
        wanted = _named(like)
        _check_same(saved, wanted)
        leaves = [_placed(saved.arrays[name], x) for name, x in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), saved.extra
    return None


def _whole_checkpoints(folder: Path) -> Iterator[_StoredCheckpoint]:
    """Read checkpoints, the newest first. Warn of damaged ones."""
    reason = None
    for number in reversed(_numbers(folder)):
        place = folder / str(number)
        try:
            saved = _read(place)
        except DAMAGE as error:
            reason = f"{place} is damaged: {error}"
            message = f"{reason}; trying the one before."
            warnings.warn(message, RuntimeWarning, stacklevel=4)
            continue
        yield saved
    if reason is not None:
        raise CheckpointError(
            f"{folder}: no checkpoint can be read. The oldest, {reason}. Remove the "
            "folder to start anew."
        )


def _read(place: Path) -> _StoredCheckpoint:
    """Read a checkpoint whose files are all unchanged since they were written."""
    stored: _Stored = read_json(place / _RECORD, _Stored)
    found = {name: _checksum(place / name) for name in _files(place)}
    found[_RECORD] = zlib.crc32(stored["record"].encode())
    for name, checksum in stored["checksums"].items():
        if found.get(name) != checksum:
            raise CheckpointError(f"{name} is not as it was written")
    record = _record(stored)
    described = _types(record)
    needed_bytes = sum(x.size * x.dtype.itemsize for x in described.values())
    require_memory(needed_bytes, f"{place}: its arrays")
    empty = {name: np.empty(x.shape, x.dtype) for name, x in described.items()}
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        restore = ocp.args.StandardRestore(_nest(empty))
        arrays = _named(checkpointer.restore(place / _ARRAYS, args=restore))
    return _StoredCheckpoint(place, arrays, dict(record["extra"]))


def _record(stored: _Stored) -> _Record:
    return read_as(_Record, parse_plain(stored["record"]), "record")


def _types(record: _Record) -> dict[Name, Any]:
    """Return shape and dtype of each array of a checkpoint."""
    return {
        name: jax.ShapeDtypeStruct(shape, np.dtype(dtype))
        for name, shape, dtype in record["arrays"]
    }


def _numbers(folder: Path) -> list[int]:
    """Return the numbers of the finished checkpoints, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def _files(folder: Path) -> list[str]:
    """List the files below a folder, relative to it."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _named(tree: Any) -> dict[Name, Any]:
    """Return leaves by the names of fields, keys and positions on the path to them."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {
        tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path): leaf
        for path, leaf in leaves
    }


def _nest(arrays: Mapping[Name, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, array in arrays.items():
        place = nested
        for part in name[:-1]:
            place = place.setdefault(part, {})
        place[name[-1]] = array
    return nested


def _check_same(saved: _StoredCheckpoint, wanted: Mapping[Name, Any]) -> None:
    for name, leaf in wanted.items():
        text = "/".join(name)
        if name not in saved.arrays:
            raise CheckpointError(
                f"{saved.folder}: has no {text}, which this run needs."
            )
        array = saved.arrays[name]
        if array.shape != leaf.shape:
            raise CheckpointError(
                f"{saved.folder}: {text} has shape {array.shape}, but this run needs "
                f"{leaf.shape}."
            )
        if array.dtype != leaf.dtype:
            raise CheckpointError(
                f"{saved.folder}: {text} is {array.dtype}, but this run needs "
                f"{leaf.dtype}."
            )
    surplus = next((name for name in saved.arrays if name not in wanted), None)
    if surplus is not None:
        raise CheckpointError(
            f"{saved.folder}: has {'/'.join(surplus)}, for which this run has no place."
        )


def _placed(array: np.ndarray, like: Any) -> Any:
    sharding = getattr(like, "sharding", None)
    if isinstance(sharding, NamedSharding):
        return place_replicated(array, sharding)
    return jax.device_put(array, sharding)
