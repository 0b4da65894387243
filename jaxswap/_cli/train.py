"""The command `jaxswap train`: train a network on whole volumes or on patches."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxswap._cli.address_space import require_address_space
from jaxswap._cli.command import Commands, ExitCode, bad_input, tell, write
from jaxswap._cli.screen import make_console
from jaxswap._cli.start import load_jax, start_jax

if TYPE_CHECKING:
    from rich.console import Console

    from jaxswap.medical.runs.processes import Processes
    from jaxswap.medical.runs.run_config import RunConfig
    from jaxswap.medical.runs.run_folder import RunFolder
    from jaxswap.medical.training.final_validation import FinalValidation
    from jaxswap.medical.training.run_progress import RunProgress

# Options that set one setting each, whose meaning is told with the settings. `--set`
# reaches all the others.
_SETTINGS = {
    "edition": ("NAME", str),
    "network": ("NAME", str),
    "init_from": ("RUN", str),
    "steps": ("N", int),
    "patch": ("N", int),
    "device_memory": ("SIZE", str),
    "target": ("GPU", str),
    "precision": ("TYPE", str),
    "compress": ("TYPE", str),
    "seed": ("N", int),
    "mesh": ("AXES", str),
}


def add_train(commands: Commands) -> None:
    """Add `jaxswap train` to what `add_subparsers` returned."""
    train = commands.add_parser(
        "train",
        help="train a segmentation network on whole volumes",
        description="Train a 3D segmentation network on whole volumes (or patches) "
        "of BraTS, Medical Segmentation Decathlon, nnU-Net or datalist data, within a "
        "budget of GPU memory. Interrupt it at any time and go on with --resume.",
        add_help=False,
    )
    train.add_argument(
        "-h",
        "--help",
        action=_HelpWithSettings,
        nargs=0,
        help="show this, and every setting with its meaning, and stop",
    )
    train.add_argument("data", type=Path, nargs="?", help="data set; see jaxswap check")
    train.add_argument("--out", type=Path, help="folder of the run")
    train.add_argument("--config", type=Path, metavar="YAML", help="settings")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting of the configuration, e.g. learning_rate=0.01",
    )
    for name, (metavar, kind) in _SETTINGS.items():
        option = "--" + name.replace("_", "-")
        told = f"the setting {name}, see below"
        train.add_argument(option, metavar=metavar, type=kind, help=told)
    train.add_argument(
        "--resume", action="store_true", help="go on with the run in --out"
    )
    train.add_argument("--cache", type=Path, help="folder of prepared cases")
    train.add_argument(
        "--print-config",
        action="store_true",
        help="write all settings as YAML, for --config, and stop",
    )
    train.add_argument(
        "--dry-run",
        action="store_true",
        help="prepare the cases, plan, compile, say what a run would take, and stop",
    )
    _add_processes(train)
    train.set_defaults(run=run_train, extra="medical")


class _HelpWithSettings(argparse.Action):
    """Shows the help of the command, and all settings of a run below it."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        del rest
        # Imported here, because it is read from files, which only this help needs.
        from jaxswap._cli.settings import settings_text

        width = shutil.get_terminal_size().columns
        write(f"{parser.format_help()}\n{settings_text(width)}")
        parser.exit()


def _add_processes(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group(
        "several processes",
        "The same command in each process; --out and --cache are folders that all of "
        "them see. If one dies, all end, and --resume goes on, also with another mesh.",
    )
    group.add_argument(
        "--distributed",
        action="store_true",
        help="started by Slurm, Open MPI or Kubernetes, whose environment says where "
        "the others are",
    )
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="where process 0 listens"
    )
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process", type=int, metavar="I", help="which one this is")
    group.add_argument(
        "--heartbeat-seconds",
        type=int,
        metavar="N",
        default=60,
        help="a process without a sign of life for so long is dead (%(default)s)",
    )
    group.add_argument(
        "--joining-seconds",
        type=int,
        metavar="N",
        default=300,
        help="how long to wait for all of them at the start (%(default)s)",
    )


def run_train(parsed: argparse.Namespace) -> int:
    """Run `jaxswap train`.

    Raises:
        BadInputError: If an option or the data does not fit.
    """
    require_address_space()
    load_jax()
    # Imported here, because the core needs neither flax nor orbax.
    from jaxswap.medical.runs.processes import joined
    from jaxswap.medical.training.sudden_end import told_at_sudden_end

    with bad_input():
        processes = _processes(parsed)
        folder = _folder(parsed)
        config = _config(parsed, folder)
        if parsed.print_config:
            write(config.to_yaml().rstrip())
            return ExitCode.DONE
        # Done before the others join, so none of them can have written anything yet.
        folder.check(config, is_resumed=parsed.resume)
    if processes is None:
        start_jax()
        return _train(parsed, config, folder)
    hint = (
        "jaxswap: one process of the run died, so this one has ended. When all have "
        f"ended, start them again with --out {folder.path} --resume."
    )
    with told_at_sudden_end(hint), joined(processes):
        start_jax()
        return _train(parsed, config, folder)


def _folder(parsed: argparse.Namespace) -> RunFolder:
    from jaxswap.medical.runs.run_folder import RunFolder

    is_only_told = parsed.print_config or (parsed.dry_run and not parsed.resume)
    if parsed.out is None and not is_only_told:
        raise ValueError("`--out` is missing: give the folder of the run.")
    # Nothing is written to a folder that is not given.
    return RunFolder(parsed.out or Path("run"))


def _train(parsed: argparse.Namespace, config: RunConfig, folder: RunFolder) -> int:

    from jaxswap.medical.runs.processes import is_first
    from jaxswap.medical.runs.run_folder import cache_folder
    from jaxswap.medical.training.dry_run import rehearse
    from jaxswap.medical.training.run_progress import RunProgress
    from jaxswap.medical.training.training_run import describe, load_run, train

    console = make_console(quiet=not is_first())
    with RunProgress(console) as progress:
        with bad_input():
            run = load_run(config, folder, parsed.cache or cache_folder(), progress)
        progress.line(describe(run))
        if parsed.dry_run:
            progress.say("compiling")
            progress.line(rehearse(run))
            return ExitCode.DONE
        try:
            scores = train(run, progress)
            validated = _validate_at_end(config, folder, progress)
        except KeyboardInterrupt:
            progress.line(f"Interrupted. Go on with: --out {folder.path} --resume")
            return ExitCode.INTERRUPTED
    if validated is not None:
        _show(validated, console)
    told = ", ".join(f"{region} {dice:.3f}" for region, dice in scores.items())
    where = f"The run is in {folder.path}."
    console.print(f"Done: {told or 'no validation'}. {where}", soft_wrap=True)
    return ExitCode.FAILED if validated and validated.failures else ExitCode.DONE


def _validate_at_end(
    config: RunConfig, folder: RunFolder, progress: RunProgress
) -> FinalValidation | None:
    from jaxswap.medical.training.final_validation import (
        is_validated_at_end,
        validate_at_end,
    )

    if not is_validated_at_end(config):
        return None
    with bad_input():
        return validate_at_end(
            folder,
            started=lambda count: progress.count("validation cases", count),
            advance=progress.advance_one,
        )


def _show(validated: FinalValidation, console: Console) -> None:
    from jaxswap._cli.score_tables import tabulate

    if validated.evaluation is not None:
        console.print(tabulate(validated.evaluation))
        where = f"Labels and scores of the validation cases: {validated.folder}"
        console.print(where, soft_wrap=True, highlight=False)
    for name, reason in validated.failures.items():
        tell(f"jaxswap: {name} is not labeled: {reason}")


def _processes(parsed: argparse.Namespace) -> Processes | None:
    """Return how to find the other processes. None for a run of one process."""
    from jaxswap.medical.runs.processes import Processes

    processes = Processes(
        parsed.coordinator,
        parsed.processes,
        parsed.process,
        parsed.heartbeat_seconds,
        parsed.joining_seconds,
    )
    is_wanted = parsed.distributed or parsed.coordinator is not None
    return processes if is_wanted else None


def _config(parsed: argparse.Namespace, folder: RunFolder) -> RunConfig:
    """Return the settings: of the resumed run, the file, and the command line."""
    from jaxswap.medical.runs.run_config import (
        make_config,
        parse_setting,
        read_config,
    )

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
