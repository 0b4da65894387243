"""The command `jaxswap synth`: make labelled synthetic cases from one real head."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jaxswap._cli.command import (
    Commands,
    ExitCode,
    bad_input,
    count_processors,
)
from jaxswap._cli.screen import make_console

if TYPE_CHECKING:
    from rich.console import Console

    from jaxswap.medical.synthesis.synthesis import Synthesis

_ARMS = ("glioma", "multifocal", "parcellation")

_LEAST_MM, _MOST_MM = 0.01, 100


def add_synth(commands: Commands) -> None:
    """Add `jaxswap synth` to what `add_subparsers` returned."""
    synth = commands.add_parser(
        "synth",
        help="make labelled synthetic cases on a real head",
        description="Make a data set of labelled cases: gliomas grown in random "
        "deformations of the MNI152 head, with the four images of BraTS, or the head's "
        "own left and right structures. Cases depend on the seed and their number "
        "alone. A run that was stopped is continued by the same command.",
    )
    synth.add_argument("out", type=Path, metavar="OUT", help="folder of the data set")
    synth.add_argument("--cases", type=int, required=True, metavar="N", help="how many")
    synth.add_argument("--seed", type=int, default=0, help="seed (%(default)s)")
    synth.add_argument(
        "--arm",
        choices=_ARMS,
        default="glioma",
        help="glioma: one tumour, nothing decided elsewhere (BraTS 2023 layout); "
        "multifocal: small foci are tumour if an enhancing tumour is anywhere (same "
        "layout); parcellation: 32 structures, left and right (nnU-Net v2 layout; "
        "labels are downloaded with pip) (%(default)s)",
    )
    synth.add_argument(
        "--spacing-mm",
        "--size-mm",
        dest="spacing_mm",
        type=float,
        default=1.0,
        metavar="MM",
        help="side of a voxel; below 0.75, parcellation uses a head of 0.5 mm "
        "(%(default)s)",
    )
    synth.add_argument(
        "--shape",
        type=int,
        nargs="+",
        metavar="VOXELS",
        help="side of the cube, or three sides (192 mm in voxels)",
    )
    synth.add_argument(
        "--satellites",
        type=int,
        default=0,
        metavar="N",
        help="in glioma: most satellites with their own core, 0 to 3 (%(default)s)",
    )
    synth.add_argument(
        "--workers", type=int, metavar="N", help="processes side by side (all cores)"
    )
    synth.add_argument(
        "--templates",
        type=Path,
        metavar="FOLDER",
        help="where parcellation keeps the downloaded labels (the user's cache)",
    )
    synth.set_defaults(run=run_synth, extra="medical")


def run_synth(parsed: argparse.Namespace) -> int:
    """Run `jaxswap synth`.

    Args:
        parsed: The options of `add_synth`.

    Returns:
        0.

    Raises:
        BadInputError: If an option or the data does not fit.
    """
    # Imported here, because the core needs neither nibabel nor rich.

    from jaxswap.medical.synthesis.synthesis import (
        Synthesis,
        default_templates,
        describe_synthesis,
        prepare_synthesis,
    )
    from jaxswap.medical.synthesis.synthetic_recipe import make_recipe

    with bad_input():
        recipe = make_recipe(
            parsed.arm,
            _shape(parsed.shape, parsed.spacing_mm),
            parsed.spacing_mm,
            parsed.satellites,
        )
        synthesis = Synthesis(
            out=parsed.out,
            recipe=recipe,
            cases=parsed.cases,
            seed=parsed.seed,
            workers=count_processors() if parsed.workers is None else parsed.workers,
            templates=(parsed.templates or default_templates())
            if parsed.arm == "parcellation"
            else None,
        )
        missing = len(prepare_synthesis(synthesis))
    console = make_console(stderr=True)
    with bad_input():
        _make(synthesis, missing, console)
    kept = parsed.cases - missing
    for line in (
        f"{parsed.out}: {missing} cases made, {kept} were there already.",
        describe_synthesis(synthesis)["statement"],
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return ExitCode.DONE


def _make(synthesis: Synthesis, missing: int, console: Console) -> None:
    """Make the missing cases with a progress bar."""
    from jaxswap.medical.data.case_progress import case_progress
    from jaxswap.medical.synthesis.synthesis import run_synthesis

    with case_progress(console) as progress:
        task = progress.add_task(
            "making cases",
            total=synthesis.cases,
            completed=synthesis.cases - missing,
        )
        for name in run_synthesis(synthesis):
            progress.update(task, advance=1, description=name)


def _shape(sides: list[int] | None, spacing_mm: float) -> tuple[int, int, int]:
    if sides is None:
        if not _LEAST_MM <= spacing_mm <= _MOST_MM:
            raise ValueError(
                f"`--spacing-mm` is {spacing_mm:g}; it needs to be from {_LEAST_MM} to "
                f"{_MOST_MM}, such as 1."
            )
        sides = [round(192 / spacing_mm)]
    if len(sides) not in (1, 3):
        raise ValueError(f"`--shape` has {len(sides)} sides; give one or three.")
    x, y, z = sides * 3 if len(sides) == 1 else sides
    return x, y, z
