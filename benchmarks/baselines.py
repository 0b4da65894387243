"""What do the programs need by themselves, and with what JAX offers to save memory?

python -m benchmarks.baselines --target h100 --target a100-40    measure what is missing
python -m benchmarks.baselines --table                           show what was measured

Each program is compiled for each target with each of JAX's policies that one would try:
around each block of the network, and around the whole loss. Nothing is executed.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax

import jaxswap
from benchmarks import harness
from benchmarks.programs import PROGRAMS, Args, Loss, Policy, Program
from benchmarks.resnet import CONVOLUTION
from jaxswap.medical.unet import PAPER

Variant = Callable[[Program], tuple[Loss, Args]]
TIMEOUT = 300  # seconds for one row: start, trace and compile
FIELDS = ("argument_bytes", "output_bytes", "temp_bytes", "host_bytes")


def plain(program: Program) -> tuple[Loss, Args]:
    """The program as it is."""
    return program()


def each_block(policy: Policy) -> Variant:
    """`jax.checkpoint` around each block."""
    return lambda program: program(policy=policy)


def whole(policy: Policy) -> Variant:
    """`jax.checkpoint` around the whole loss."""

    def variant(program: Program) -> tuple[Loss, Args]:
        loss, args = program()
        return jax.checkpoint(loss, policy=policy), args

    return variant


def variants(name: str) -> dict[str, Variant]:
    """Return what one would try for the program of this name; all have one value.

    The policies of networks of matrix products see those. A convolution is none, so
    where convolutions are the heavy operations the policies go by name.
    """
    policies = jax.checkpoint_policies
    memories = {"offload_src": "device", "offload_dst": "pinned_host"}
    if name.startswith(("unet3d", "resnet")):
        names = [CONVOLUTION, *PAPER.convolution_names]
        save = policies.save_only_these_names(*names)
        offload = policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[], names_which_can_be_offloaded=names, **memories
        )
        heavy = "convolutions"
    else:
        save = policies.dots_with_no_batch_dims_saveable
        offload = policies.offload_dot_with_no_batch_dims(*memories.values())
        heavy = "products"
    return {
        "plain": plain,
        "each block, nothing saved": each_block(policies.nothing_saveable),
        f"each block, {heavy} saved": each_block(save),
        f"each block, {heavy} offloaded": each_block(offload),
        f"whole, {heavy} offloaded": whole(offload),
    }


def measure(name: str, variant: str, target: str) -> dict[str, Any]:
    """Compile one step of a variant and return what the compiled program needs."""
    loss, args = variants(name)[variant](PROGRAMS[name])
    step, options = jax.value_and_grad(loss), jaxswap.compiler_options()
    try:
        seen = jaxswap.inspect(step, *args, target=target, compiler_options=options)
    except jax.errors.JaxRuntimeError as failure:
        return {"error": str(failure).splitlines()[0]}
    return {field: getattr(seen, field) for field in FIELDS} | {
        "copies": len(seen.copies),
        "exposed_copies": len(seen.exposed_copies),
        "copied_bytes": seen.swapped_bytes,
        "exposed_bytes": seen.exposed_bytes,
        "compile_seconds": seen.compile_seconds,
    }


def measure_alone(name: str, variant: str, target: str) -> dict[str, Any]:
    """Measure in a process of its own: XLA may refuse, abort or take too long."""
    command = [sys.executable, "-m", "benchmarks.baselines", "--one", name, variant]
    try:
        done = subprocess.run(
            [*command, "--target", target],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {TIMEOUT} s"}
    if done.returncode < 0:
        return {"error": f"XLA aborted, signal {-done.returncode}"}
    if done.returncode:
        raise RuntimeError(f"{name}, {variant}, {target} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def rows(targets: list[str]) -> list[tuple[str, str, str]]:
    """Return program, variant and target of every row: all plain ones come first."""
    first = [(name, "plain", target) for target in targets for name in PROGRAMS]
    rest = [
        (name, variant, target)
        for name in PROGRAMS
        for variant in variants(name)
        for target in targets
    ]
    return list(dict.fromkeys([*first, *rest]))


def read(output: pathlib.Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the newest row of each program, variant and target of a file."""
    found = harness.rows_of(output)
    return {(row["program"], row["variant"], row["target"]): row for row in found}


def table(output: pathlib.Path) -> str:
    """Return what was measured as a Markdown table, sizes in MiB."""
    head = "program", "variant", "target", "args", "results", "temp", "host"
    head += "copies", "exposed", "compile s"
    shown = [head, ["---"] * len(head)]
    for key, row in read(output).items():
        if "error" in row:
            shown.append([*key, row["error"], *[""] * (len(head) - 4)])
            continue
        cells = [f"{row[field] / 2**20:,.0f}" for field in FIELDS]
        copies = f"{row['copies']}" if row["copies"] else ""
        share = row["exposed_bytes"] / row["copied_bytes"] if row["copies"] else 0
        exposed = f"{share:.0%} of bytes" if row["copies"] else ""
        shown.append([*key, *cells, copies, exposed, f"{row['compile_seconds']:.0f}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in shown)


def main(arguments: list[str] | None = None) -> None:
    """Run the measurement that the command line asks for."""
    parser = argparse.ArgumentParser(prog="benchmarks.baselines", description=__doc__)
    parser.add_argument("--target", action="append", help="GPU, may be repeated")
    parser.add_argument("--program", action="append", choices=list(PROGRAMS))
    parser.add_argument("--one", nargs=2, help="print the row of a program, a variant")
    parser.add_argument("--table", action="store_true", help="show what was measured")
    parser.add_argument(
        "--output", type=pathlib.Path, default=harness.RESULTS / "baselines.jsonl"
    )
    options = parser.parse_args(arguments)
    targets = options.target or ["h100"]
    if options.table:
        print(table(options.output))
        return
    if options.one:
        name, variant = options.one
        print(json.dumps(measure(name, variant, targets[0])))
        return
    for name, variant, target in rows(targets):
        key = (name, variant, target)
        is_wanted = name in (options.program or PROGRAMS)
        if is_wanted and key not in read(options.output):
            row = dict(zip(("program", "variant", "target"), key, strict=True))
            harness.record(row | measure_alone(*key), options.output)


if __name__ == "__main__":
    main()
