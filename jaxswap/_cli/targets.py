"""The command `jaxswap targets`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from jaxswap._base.units import format_bytes
from jaxswap._cli.command import Commands, ExitCode, bad_input, write
from jaxswap._gpu.rates import Rates
from jaxswap._view.table import table_lines


def add_targets(commands: Commands) -> None:
    """Add `jaxswap targets` to what `add_subparsers` returned."""
    targets = commands.add_parser(
        "targets", help="list the GPUs that can be planned for, with their numbers"
    )
    targets.add_argument("--json", action="store_true", help="write JSON to stdout")
    targets.set_defaults(run=run_targets)


def run_targets(parsed: argparse.Namespace) -> int:
    """Run `jaxswap targets`.

    Returns:
        The exit code.

    Raises:
        BadInputError: If a saved target cannot be read.
    """
    from jaxswap._gpu.node import find_node, node_names
    from jaxswap._gpu.saved import saved_targets
    from jaxswap._gpu.target import built_in_target, rates_of, target_names

    found = {name: built_in_target(name) for name in target_names()}
    with bad_input():
        found |= saved_targets()
    if parsed.json:
        rows = [asdict(t) | {"rates": asdict(rates_of(t))} for t in found.values()]
        write(json.dumps(rows, indent=2))
        return ExitCode.DONE
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
                _basis(rates),
            )
        )
    write("\n".join(table_lines(table)))
    nodes = [find_node(name) for name in node_names()]
    machines = [f"{node.name} ({node.gpu_count} x {node.gpu.name})" for node in nodes]
    write(f"machines, whose GPUs share links and memory: {', '.join(machines)}")
    return ExitCode.DONE


def _basis(rates: Rates) -> str:
    """What the numbers rest on, and how many operations were timed one by one."""
    count = len(rates.operations)
    return f"{rates.basis}, {count} operations measured" if count else rates.basis
