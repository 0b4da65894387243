"""The command `jaxswap train`: a segmentation network on whole volumes or patches."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_DONE, _INTERRUPTED = 0, 130

# Options that are settings of their own, besides `--set`.
_SETTINGS = {
    "edition": ("NAME", str, "what labels mean: brats2021, brats2023, ..."),
    "network": ("NAME", str, "isensee2017, residual or package.module:Class"),
    "steps": ("N", int, "training steps"),
    "patch": ("N", int, "train on patches of this side instead of whole volumes"),
    "device_memory": ("SIZE", str, "plan for this much GPU memory, such as 16GiB"),
    "target": ("GPU", str, "GPU to plan for; without it, the one at hand"),
    "precision": ("TYPE", str, "bfloat16 or float32"),
    "seed": ("N", int, "seed of everything random"),
}


def add_train(commands: Any) -> None:
    """Adds `jaxswap train` to what `add_subparsers` returned."""
    train = commands.add_parser(
        "train",
        help="train a segmentation network on whole volumes",
        description="Train a 3D segmentation network on whole volumes (or patches) "
        "of BraTS, Medical Segmentation Decathlon, nnU-Net or datalist data, within a "
        "budget of GPU memory. Interrupt it at any time and go on with --resume.",
    )
    train.add_argument("data", type=Path, nargs="?", help="data set; see jaxswap check")
    train.add_argument("--out", type=Path, required=True, help="folder of the run")
    train.add_argument("--config", type=Path, metavar="YAML", help="settings")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting of the configuration, e.g. learning_rate=0.01",
    )
    for name, (metavar, kind, told) in _SETTINGS.items():
        option = "--" + name.replace("_", "-")
        train.add_argument(option, metavar=metavar, type=kind, help=told)
    train.add_argument(
        "--resume", action="store_true", help="go on with the run in --out"
    )
    train.add_argument("--cache", type=Path, help="folder of prepared cases")
    train.set_defaults(run=run_train)


def run_train(parsed: argparse.Namespace) -> int:
    """Runs `jaxswap train`.

    Raises:
      ValueError: If a setting, the data or the run's folder do not fit.
      FileNotFoundError: If a file or folder is missing.
    """
    # Imported here so that the core needs neither flax nor orbax.
    from rich.console import Console

    from jaxswap._compat import start_without_gpu
    from jaxswap.medical.run_folder import RunFolder, cache_folder
    from jaxswap.medical.run_progress import RunProgress
    from jaxswap.medical.training_run import describe, load_run, train

    start_without_gpu()
    folder = RunFolder(parsed.out)
    config = _config(parsed, folder)
    folder.check(config, is_resumed=parsed.resume)
    console = Console()
    with RunProgress(console) as progress:
        run = load_run(config, folder, parsed.cache or cache_folder(), progress)
        progress.line(describe(run))
        try:
            scores = train(run, progress)
        except KeyboardInterrupt:
            progress.line(f"Interrupted. Go on with: --out {folder.path} --resume")
            return _INTERRUPTED
    told = ", ".join(f"{region} {dice:.3f}" for region, dice in scores.items())
    console.print(f"Done: {told or 'no validation'}. The run is in {folder.path}.")
    return _DONE


def _config(parsed: argparse.Namespace, folder: Any) -> Any:
    """The settings: of the run that is resumed, the file, and the command line."""
    from jaxswap.medical.run_config import make_config, parse_setting, read_config

    values: dict[str, Any] = {}
    saved = folder.path / "config.yaml"
    if parsed.resume and saved.is_file():
        values |= read_config(saved)
    if parsed.config is not None:
        values |= read_config(parsed.config)
    values |= dict(map(parse_setting, parsed.set))
    given = {name: getattr(parsed, name) for name in _SETTINGS}
    values |= {name: value for name, value in given.items() if value is not None}
    if parsed.data is not None:
        values["data"] = str(parsed.data)
    return make_config(values)
