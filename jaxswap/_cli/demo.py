"""The command `jaxswap demo`: train on a real head and compare memory methods."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jaxswap._cli.address_space import require_address_space
from jaxswap._cli.command import Commands, ExitCode, bad_input
from jaxswap._cli.screen import make_console
from jaxswap._cli.start import start_jax

if TYPE_CHECKING:
    from rich.console import Console

_SIZE = 192  # Voxels along each side of the volume for which methods are compared.


def add_demo(commands: Commands) -> None:
    """Add `jaxswap demo` to what `add_subparsers` returned."""
    demo = commands.add_parser(
        "demo",
        help="train a 3D U-Net on a real head and compare memory methods",
        description="Train a 3D U-Net on whole deformed volumes of the MNI152 head "
        "on this machine, write its labels as NIfTI, and compare what one training "
        "step at 192^3 needs on a GPU by method.",
    )
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="FOLDER")
    demo.add_argument(
        "--size", type=int, default=64, help="voxels a side (%(default)s)"
    )
    demo.add_argument("--steps", type=int, default=80, help="training steps")
    demo.add_argument("--seed", type=int, default=0, help="seed of cases and weights")
    demo.add_argument(
        "--image", type=Path, metavar="NIFTI", help="image to use instead of MNI152"
    )
    demo.add_argument(
        "--labels", type=Path, metavar="NIFTI", help="labels 0..3 of --image"
    )
    demo.add_argument(
        "--target", default="h100", help="GPU to compile for (%(default)s)"
    )
    demo.add_argument(
        "--skip-table", action="store_true", help="leave out the comparison of methods"
    )
    demo.set_defaults(run=run_demo, extra="medical")


def run_demo(parsed: argparse.Namespace) -> int:
    """Run `jaxswap demo`.

    Raises:
        BadInputError: If an option or an input file does not fit.
    """
    require_address_space()
    start_jax()
    # Imported here, because the core needs neither flax nor nibabel.

    from jaxswap._cli.methods_table import check_target
    from jaxswap.medical.experiment import demo

    with bad_input(OSError):
        config = demo.DemoConfig(
            out=parsed.out,
            size=parsed.size,
            steps=parsed.steps,
            seed=parsed.seed,
            image=parsed.image,
            labels=parsed.labels,
        )
        if not parsed.skip_table:
            check_target(parsed.target)
        ready = demo.prepare_demo(config)
    console = make_console()
    demo.run_demo(ready, console)
    if not parsed.skip_table:
        _compare(parsed.out / "comparison.jsonl", parsed.target, console)
    return ExitCode.DONE


def _compare(path: Path, target: str, console: Console) -> None:
    """Compile the step by each method. Show the table and write its rows."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from jaxswap._cli.methods_table import compile_methods, methods, tabulate
    from jaxswap.medical.data.writing import whole_file

    names, rows = [*methods(), "done"], []
    progress = Progress(
        TextColumn("compiling {task.fields[method]}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=console,
    )
    with progress:
        task = progress.add_task("", total=len(names) - 1, method=names[0])
        for row in compile_methods(_SIZE, target):
            rows.append(row)
            progress.update(task, advance=1, method=names[len(rows)])
    console.print(tabulate(rows))
    with whole_file(path) as temporary:
        temporary.write_text(
            "".join(row.to_json() + "\n" for row in rows), encoding="utf-8"
        )
