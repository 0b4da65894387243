"""The commands `plan`, `inspect`, `targets` and `calibrate`.

Each has a function that adds its options and one that runs it. What a caller gives is
checked before anything is traced, so that a wrong file name does not cost a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxswap._base.units import format_bytes

Commands = Any
"""What `add_subparsers` returns."""


class BadInputError(Exception):
    """What the caller gave does not fit; the message says why."""


def add_plan(commands: Commands) -> None:
    """Add `jaxswap plan`."""
    plan = commands.add_parser(
        "plan",
        help="plan a training step for a budget of GPU memory",
        description="Decide for every value of a training step whether it is kept, "
        "swapped or recomputed, so that the step fits a budget on a GPU that need not "
        "be there, and compile it to check.",
    )
    _add_program(plan)
    plan.add_argument(
        "--budget", help="device memory: 8GiB, bytes, or `smallest` (the GPU's)"
    )
    plan.add_argument("--reserve", default="0", help="set aside, for optimizer state")
    plan.add_argument("--host-budget", help="pinned host memory that may be used")
    plan.add_argument("--policy", help="plan by one of jaxswap.policies instead")
    plan.add_argument(
        "--no-compile", action="store_true", help="believe the simulation"
    )
    plan.add_argument(
        "--most-compiles", type=int, default=4, help="programs to compile at most"
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
    """Run `jaxswap plan`."""
    import jaxswap

    for path in (parsed.html, parsed.plot, parsed.save, parsed.pareto):
        _check_folder(path)
    for path in (parsed.plot, parsed.pareto):
        if path is not None and path.suffix not in (".png", ".svg"):
            raise BadInputError(f"{path} must end with .png or .svg.")
    policy = _policy(parsed.policy)
    fn, args = _program(parsed)
    options: dict[str, Any] = {
        "target": parsed.target,
        "reserve": parsed.reserve,
        "host_budget": parsed.host_budget,
        "most_compiles": parsed.most_compiles,
        "compile": not parsed.no_compile,
        "progress": not parsed.quiet,
    }
    try:
        with _own_stdout():
            plan = jaxswap.plan(
                fn, *args, budget=parsed.budget, policy=policy, **options
            )
    except (ValueError, TypeError, ImportError, FileNotFoundError) as error:
        raise BadInputError(str(error)) from error
    if parsed.html:
        plan.to_html(parsed.html)
    if parsed.plot:
        plan.plot(parsed.plot)
    if parsed.save:
        plan.save(parsed.save)
    if parsed.pareto:
        with _own_stdout():
            curve = jaxswap.pareto(fn, *args, target=parsed.target, progress=False)
        curve.plot(parsed.pareto)
    _write(json.dumps(plan.summary(), indent=2) if parsed.json else str(plan))
    return 0


@contextlib.contextmanager
def _own_stdout() -> Iterator[None]:
    """Send what C++ libraries print to stderr: HiGHS writes a stray line at times."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def add_inspect(commands: Commands) -> None:
    """Add `jaxswap inspect`."""
    inspect = commands.add_parser(
        "inspect",
        help="compile a training step for a GPU and read its memory and copies",
        description="Compile value and gradient for a GPU that need not be there, and "
        "show device memory, host memory, every copy, and who is alive at the peak.",
    )
    _add_program(inspect)
    how = inspect.add_mutually_exclusive_group()
    how.add_argument(
        "--offload", action="store_true", help="through jaxswap.offload, no budget"
    )
    how.add_argument("--plan", type=Path, metavar="FILE", help="follow a saved plan")
    inspect.add_argument("--json", action="store_true", help="write JSON to stdout")
    inspect.set_defaults(run=run_inspect)


def run_inspect(parsed: argparse.Namespace) -> int:
    """Run `jaxswap inspect`."""
    import jax

    import jaxswap
    from jaxswap._calibrate import resolve_target

    try:
        plan = None if parsed.plan is None else jaxswap.load_plan(parsed.plan)
        fn, args = _program(parsed)
        if plan is not None or parsed.offload:
            fn = jaxswap.offload(fn, plan=plan)
        seen = jaxswap.inspect(
            jax.value_and_grad(fn),
            *args,
            target=None if parsed.target is None else resolve_target(parsed.target),
            compiler_options=jaxswap.compiler_options(),
        )
    except (ValueError, TypeError, ImportError, FileNotFoundError) as error:
        raise BadInputError(str(error)) from error
    if not parsed.json:
        _write(str(seen))
        return 0
    fields = asdict(seen)
    fields.pop("hlo_text")
    fields |= {
        "device_bytes": seen.device_bytes,
        "swapped_bytes": seen.swapped_bytes,
        "exposed_bytes": seen.exposed_bytes,
    }
    _write(json.dumps(fields, indent=2, default=str))
    return 0


def add_targets(commands: Commands) -> None:
    """Add `jaxswap targets`."""
    targets = commands.add_parser(
        "targets", help="list the GPUs that can be planned for, with their numbers"
    )
    targets.add_argument("--json", action="store_true", help="write JSON to stdout")
    targets.set_defaults(run=run_targets)


def run_targets(parsed: argparse.Namespace) -> int:
    """Run `jaxswap targets`."""
    from jaxswap._gpu.node import find_node, node_names
    from jaxswap._gpu.saved import saved_targets
    from jaxswap._gpu.target import find_target, rates_of, target_names

    found = {name: find_target(name) for name in target_names()}
    try:
        found |= saved_targets()
    except ValueError as error:
        raise BadInputError(str(error)) from error
    if parsed.json:
        rows = [asdict(t) | {"rates": asdict(rates_of(t))} for t in found.values()]
        _write(json.dumps(rows, indent=2))
        return 0
    head = ("name", "memory", "bandwidth", "to host", "from host", "bf16", "numbers")
    table: list[tuple[str, ...]] = [head]
    for name, target in found.items():
        rates = rates_of(target)
        table.append(
            (
                name,
                format_bytes(target.memory_bytes),
                f"{rates.memory_bytes_per_second / 1e9:,.0f} GB/s",
                f"{rates.swap_out_bytes_per_second / 1e9:,.0f} GB/s",
                f"{rates.swap_in_bytes_per_second / 1e9:,.0f} GB/s",
                f"{rates.bf16_matmul_flops_per_second / 1e12:,.0f} TFLOP/s",
                "measured" if rates.is_measured else "published",
            )
        )
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    for row in table:
        cells = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        _write("  ".join(cells).rstrip())
    nodes = [find_node(name) for name in node_names()]
    machines = [f"{node.name} ({node.gpu_count} x {node.gpu.name})" for node in nodes]
    _write(f"machines, whose GPUs share links and memory: {', '.join(machines)}")
    return 0


def add_calibrate(commands: Commands) -> None:
    """Add `jaxswap calibrate`."""
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
    """Run `jaxswap calibrate`."""
    import jaxswap

    try:
        target = jaxswap.calibrate(
            like=parsed.like,
            quick=parsed.quick,
            progress=lambda line: _write(line, sys.stderr),
        )
    except (ValueError, RuntimeError) as error:
        raise BadInputError(str(error)) from error
    assert target.rates is not None
    if parsed.json:
        _write(json.dumps(asdict(target), indent=2))
    else:
        for name, value in asdict(target.rates).items():
            _write(f"{name:<34} {value}")
    return 0


def _add_program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "program",
        help="`unet3d`, or package.module:factory, a function without arguments that "
        "returns the loss and a tuple of its arguments (arrays or their types)",
    )
    parser.add_argument("--target", help="GPU by name, or a saved target's file")
    parser.add_argument("--size", type=int, help="voxels a side, of unet3d (192)")
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), help="of unet3d (bfloat16)"
    )


def _program(parsed: argparse.Namespace) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The loss and its arguments."""
    from jaxswap._compat import start_without_gpu

    start_without_gpu()
    if parsed.program == "unet3d":
        size = 192 if parsed.size is None else parsed.size
        return _unet3d(size, parsed.dtype or "bfloat16")
    if parsed.size is not None or parsed.dtype:
        raise BadInputError("--size and --dtype are for unet3d alone.")
    made = _call_factory(parsed.program)
    if not (isinstance(made, tuple) and len(made) == 2 and callable(made[0])):
        raise BadInputError(
            f"{parsed.program} returned {type(made).__name__}; it must return the loss "
            "and a tuple of its arguments."
        )
    fn, args = made
    return fn, tuple(args) if isinstance(args, (tuple, list)) else (args,)


def _unet3d(size: int, dtype: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    import jax.numpy as jnp

    from jaxswap.medical.networks.unet import PAPER
    from jaxswap.medical.networks.unet_program import loss_and_arguments

    try:
        return loss_and_arguments(size, PAPER.clone(dtype=jnp.dtype(dtype)))
    except ValueError as error:
        raise BadInputError(str(error)) from error


def _call_factory(name: str) -> Any:
    """Import and call what `package.module:factory` names."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise BadInputError(
            f"`{name}` is neither unet3d nor of the form package.module:factory."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = importlib.import_module(module)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise BadInputError(f"`{name}` cannot be imported: {error}") from error
    if not callable(factory):
        raise BadInputError(f"`{name}` is no function.")
    try:
        return factory()
    except TypeError as error:
        raise BadInputError(f"`{name}` cannot be called: {error}") from error


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


def _write(text: str, stream: Any = None) -> None:
    (stream or sys.stdout).write(text + "\n")
