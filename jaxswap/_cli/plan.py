"""The command `jaxswap plan`."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxswap._cli.command import BadInputError, Commands, ExitCode, bad_input, write
from jaxswap._cli.program import add_program, is_data, program_of
from jaxswap._cli.start import start_jax

if TYPE_CHECKING:
    import jaxswap


def add_plan(commands: Commands) -> None:
    """Add `jaxswap plan` to what `add_subparsers` returned."""
    plan = commands.add_parser(
        "plan",
        help="plan a training step for a budget of GPU memory",
        description="Decide for every value of a training step whether it is kept, "
        "swapped or recomputed, so that the step fits a budget on a GPU that need not "
        "be there, and compile it to check. For a data set, choose shape, batch and, "
        "where whole volumes do not fit, patches first, as `jaxswap train` would.",
    )
    add_program(plan, with_data=True)
    plan.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for a data set: any setting of jaxswap train",
    )
    plan.add_argument(
        "--budget", help="device memory: 8GiB, bytes, or `smallest` (the GPU's)"
    )
    plan.add_argument("--reserve", default="0", help="set aside, for optimizer state")
    plan.add_argument("--host-budget", help="pinned host memory that may be used")
    plan.add_argument("--policy", help="plan by one of jaxswap.policies instead")
    plan.add_argument(
        "--slabs",
        metavar="auto|none|LEVELSxCOUNT",
        help="compute the finest levels slab by slab: where nothing else fits (auto), "
        "never, or so many levels in so many slabs, such as 2x16",
    )
    plan.add_argument(
        "--compress",
        metavar="TYPE",
        help="round what leaves to bfloat16, float8_e4m3fn or int8: smaller copies, "
        "and another gradient",
    )
    plan.add_argument(
        "--pieces",
        type=int,
        metavar="COUNT",
        help="for a program: cut large values into so many pieces, of which some may "
        "leave and others stay",
    )
    plan.add_argument(
        "--no-compile", action="store_true", help="believe the simulation"
    )
    plan.add_argument(
        "--most-compiles", type=int, default=8, help="programs to compile at most"
    )
    plan.add_argument("--quiet", action="store_true", help="write no progress")
    plan.add_argument("--json", action="store_true", help="write JSON to stdout")
    plan.add_argument("--html", type=Path, metavar="FILE", help="write a report")
    plan.add_argument("--plot", type=Path, metavar="FILE", help="draw it: .png, .svg")
    plan.add_argument("--save", type=Path, metavar="FILE", help="save it as JSON")
    plan.add_argument(
        "--pareto", type=Path, metavar="FILE", help="draw budget against step time"
    )
    plan.set_defaults(run=run_plan)


def run_plan(parsed: argparse.Namespace) -> int:
    """Run `jaxswap plan`.

    Returns:
        The exit code.

    Raises:
        BadInputError: If an option or a file does not fit.
    """
    import jaxswap

    for path in (parsed.html, parsed.plot, parsed.save, parsed.pareto):
        _check_folder(path)
    for path in (parsed.plot, parsed.pareto):
        if path is not None and path.suffix not in (".png", ".svg"):
            raise BadInputError(f"{path} must end with .png or .svg.")
    if parsed.plot or parsed.pareto:
        importlib.import_module("matplotlib")  # Checked first: planning takes long.
    start_jax()
    if is_data(parsed.program):
        from jaxswap._cli.plan_data import plan_of_data

        plan, told = plan_of_data(parsed)
        _write_files(plan, parsed)
        write(json.dumps(plan.summary(), indent=2) if parsed.json else told)
        return ExitCode.DONE
    if parsed.set:
        raise BadInputError("--set is for data sets.")
    policy = _policy(parsed.policy)
    fn, args = program_of(parsed)
    options: dict[str, Any] = {
        "target": parsed.target,
        "reserve": parsed.reserve,
        "host_budget": parsed.host_budget,
        "most_compiles": parsed.most_compiles,
        "compile": not parsed.no_compile,
        "progress": not parsed.quiet,
        "slabs": parsed.slabs or "auto",
        "compress": parsed.compress,
        "pieces": parsed.pieces,
    }
    with bad_input():
        plan = jaxswap.plan(fn, *args, budget=parsed.budget, policy=policy, **options)
    _write_files(plan, parsed)
    if parsed.pareto:
        names = ("target", "slabs", "compress", "pieces")
        shared = {name: options[name] for name in names}
        curve = jaxswap.pareto(fn, *args, **shared, progress=False)
        curve.plot(parsed.pareto)
    write(json.dumps(plan.summary(), indent=2) if parsed.json else str(plan))
    return ExitCode.DONE


def _write_files(plan: jaxswap.Plan, parsed: argparse.Namespace) -> None:
    if parsed.html:
        plan.to_html(parsed.html)
    if parsed.plot:
        plan.plot(parsed.plot)
    if parsed.save:
        plan.save(parsed.save)


def _policy(name: str | None) -> Any:
    from jaxswap import policies

    if name is None:
        return None
    known = (*policies.PUBLISHED, *policies.JAX_OWN)
    if name not in known:
        raise BadInputError(f"--policy is `{name}`; choose one of {', '.join(known)}.")
    return getattr(policies, name)()


def _check_folder(path: Path | None) -> None:
    if path is None:
        return
    if not path.parent.is_dir():
        raise BadInputError(f"there is no folder {path.parent} to write {path} to.")
    if path.is_dir():
        raise BadInputError(f"{path} is a folder; a file is needed.")
