"""Parameters of an earlier run to start from, as far as they fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax import Array

from jaxswap.medical.runs.checkpoints import restore_parameters
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.runs.state import Parameters


@dataclass(frozen=True, eq=False)
class GivenParameters:
    """Parameters of an earlier run.

    Attributes:
        run: Folder of the run.
        fitting: Arrays by the name that they have in both networks.
        differing: A text for each parameter that is not taken, with the reason.
    """

    run: Path
    fitting: dict[str, Array]
    differing: tuple[str, ...]

    def put_into(self, drawn: Parameters) -> Parameters:
        """Replace drawn parameters by those that are given."""
        return jax.tree.map_with_path(
            lambda path, x: self.fitting.get(_name(path), x), drawn
        )

    def describe(self) -> str:
        """Say what is taken from the run, and list what is not."""
        count = len(self.fitting)
        told = f"Starts from {self.run}: {count} of its parameters."
        if not self.differing:
            return told
        lines = [f"{told} What differs is drawn anew:", *self.differing]
        return "\n  ".join(lines)


def require_run(run: Path) -> None:
    """Raise ValueError if a folder holds no training run to start from."""
    if not RunFolder(run).is_run:
        raise ValueError(f"`init_from` is {run}, which holds no training run.")


def read_parameters(run: Path, wanted: Parameters) -> GivenParameters:
    """Read the parameters of a run and compare them with those of a network.

    Args:
        run: Folder of the run. Its best checkpoint counts, or else the latest.
        wanted: Types of the network's parameters.

    Returns:
        What fits, and what does not.

    Raises:
        ValueError: If there is no such run, or nothing of it fits.
    """
    require_run(run)
    folder = RunFolder(run)
    try:
        found, _ = restore_parameters(folder.checkpoints, "best")
    except FileNotFoundError:
        found, _ = _latest(run, folder)
    theirs, ours = _by_name(found), _by_name(wanted)
    fitting, differing = {}, []
    for name, type_ in ours.items():
        array = theirs.get(name)
        if array is not None and array.shape == type_.shape:
            fitting[name] = array.astype(type_.dtype)
            continue
        there = "missing there" if array is None else f"{array.shape} there"
        differing.append(f"{name}: {there}, {type_.shape} here")
    if not fitting:
        raise ValueError(
            f"`init_from` is {run}, but none of its {len(theirs)} parameters fits this "
            f"network: {'; '.join(differing[:3])}, ..."
        )
    unused = [f"{name}: missing here" for name in theirs if name not in ours]
    return GivenParameters(run, fitting, (*differing, *unused))


def _latest(run: Path, folder: RunFolder) -> tuple[Parameters, Any]:
    try:
        return restore_parameters(folder.checkpoints, "latest")
    except FileNotFoundError as error:
        raise ValueError(
            f"`init_from` is {run}, which has saved no checkpoint yet."
        ) from error


def _by_name(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {_name(path): leaf for path, leaf in leaves}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
