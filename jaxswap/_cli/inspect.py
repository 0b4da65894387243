"""The command `jaxswap inspect`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from jaxswap._cli.command import BadInputError, Commands, ExitCode, bad_input, write
from jaxswap._cli.program import add_program, program_of
from jaxswap._cli.start import start_jax


def add_inspect(commands: Commands) -> None:
    """Add `jaxswap inspect` to what `add_subparsers` returned."""
    inspect = commands.add_parser(
        "inspect",
        help="compile a training step for a GPU and read its memory and copies",
        description="Compile value and gradient for a GPU that need not be there, and "
        "show device memory, host memory, every copy, and who is alive at the peak.",
    )
    add_program(inspect)
    how = inspect.add_mutually_exclusive_group()
    how.add_argument(
        "--offload", action="store_true", help="through jaxswap.offload, no budget"
    )
    how.add_argument("--plan", type=Path, metavar="FILE", help="follow a saved plan")
    inspect.add_argument(
        "--compress",
        metavar="TYPE",
        help="with --offload: round what leaves to bfloat16, float8_e4m3fn or int8",
    )
    inspect.add_argument("--json", action="store_true", help="write JSON to stdout")
    inspect.set_defaults(run=run_inspect)


def run_inspect(parsed: argparse.Namespace) -> int:
    """Run `jaxswap inspect`.

    Returns:
        The exit code.

    Raises:
        BadInputError: If an option or a file does not fit.
    """
    if parsed.compress is not None and not parsed.offload:
        raise BadInputError("--compress needs --offload. A plan holds its own.")
    start_jax()
    import jax

    import jaxswap

    with bad_input():
        plan = None if parsed.plan is None else jaxswap.load_plan(parsed.plan)
        fn, args = program_of(parsed)
        if plan is not None or parsed.offload:
            fn = jaxswap.offload(fn, plan=plan, compress=parsed.compress)
        seen = jaxswap.inspect(
            jax.value_and_grad(fn),
            *args,
            target=parsed.target,
        )
    if not parsed.json:
        write(str(seen))
        return ExitCode.DONE
    fields = asdict(seen)
    fields.pop("hlo_text")
    fields |= {
        "device_bytes": seen.device_bytes,
        "swapped_bytes": seen.swapped_bytes,
        "exposed_bytes": seen.exposed_bytes,
    }
    write(json.dumps(fields, indent=2, default=str))
    return ExitCode.DONE
