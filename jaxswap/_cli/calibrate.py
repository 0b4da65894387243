"""The command `jaxswap calibrate`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from jaxswap._cli.command import Commands, ExitCode, bad_input, tell, write
from jaxswap._cli.start import start_jax


def add_calibrate(commands: Commands) -> None:
    """Add `jaxswap calibrate` to what `add_subparsers` returned."""
    calibrate = commands.add_parser(
        "calibrate",
        help="measure this machine's GPU and save its rates",
        description="Measure products, convolutions, memory and copies on the default "
        "device; later plans for it use what was measured.",
    )
    calibrate.add_argument("--quick", action="store_true", help="small and rough")
    calibrate.add_argument("--like", help="a known GPU that an unknown one resembles")
    calibrate.add_argument("--json", action="store_true", help="write JSON to stdout")
    calibrate.set_defaults(run=run_calibrate)


def run_calibrate(parsed: argparse.Namespace) -> int:
    """Run `jaxswap calibrate`.

    Returns:
        The exit code.

    Raises:
        BadInputError: If an option does not fit.
    """
    import jaxswap

    start_jax()
    with bad_input(RuntimeError):  # There is no GPU.
        target = jaxswap.calibrate(like=parsed.like, quick=parsed.quick, progress=tell)
    assert target.rates is not None
    if parsed.json:
        write(json.dumps(asdict(target), indent=2))
    else:
        for name, value in asdict(target.rates).items():
            write(f"{name:<34} {value}")
    return ExitCode.DONE
