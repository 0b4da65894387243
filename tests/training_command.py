"""`jaxswap train` on tiny data, called as from a shell, and what a run wrote."""

import csv
import pathlib
from typing import Any

import jax
import pytest
import yaml

from jaxswap._cli.main import main

NAMES = [f"BraTS2021_{number:05d}" for number in range(4)]
TINY = ["--network", "tiny_networks:OneConvolution", "--set", "network_options={}"]


def config_file(folder: pathlib.Path, settings: dict[str, Any], **changed: Any) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings | changed))
    return str(path)


def trained_in(
    folder: pathlib.Path,
    data: pathlib.Path,
    settings: dict[str, Any],
    *words: str,
    **changed: Any,
) -> pathlib.Path:
    """A run without interruption, for fixtures that tests share."""
    folder.mkdir(exist_ok=True)
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("JAXSWAP_HOME", str(folder / "home"))
        run, file = folder / "run", config_file(folder, settings, **changed)
        given = ["train", str(data), "--out", str(run), "--config", file, *words]
        assert main(given) == 0
    return run


def column(table: pathlib.Path, name: str) -> list[str]:
    """What a table of a run has under a name, where it has something."""
    if not table.exists():
        return []
    with table.open() as file:
        return [row[name] for row in csv.DictReader(file) if row[name]]


def losses(run: pathlib.Path) -> list[str]:
    return column(run / "metrics.csv", "loss")


TRAINED: dict[str, Any] = {
    "folds": 2,
    "network": "tiny_networks:Convolutions",
    "precision": "float32",
    "steps": 4,
    "validate_every": 2,
    "checkpoint_every": 2,
    "average_decay": 0.9,
    "final_validation": False,
}
"""Settings of a run that has everything and a small network."""
UNET = {name: value for name, value in TRAINED.items() if name != "network"} | {
    "network_options": {"base_filters": 2, "depth": 3, "segmentation_levels": 1}
}
"""The same with the network that is trained if none is named."""
