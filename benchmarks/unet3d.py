"""What does a training step of the 3-D U-Net need, and how long does it take?

python -m benchmarks.unet3d --size 192 --target h100     read from compiled programs
python -m benchmarks.unet3d --size 192 --device          measured on this machine
python -m benchmarks.unet3d --table                      the results as a table
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import harness
from jaxswap.medical.comparison import compare, methods
from jaxswap.medical.unet import PAPER, UNet3D

TINY = UNet3D(base_filters=2, depth=2, segmentation_levels=1)
CHANNELS = 4
GRADIENT_TOLERANCE = 1e-3  # of its norm, in float32


def main(arguments: list[str] | None = None) -> None:
    """Run the measurement that the command line asks for."""
    parser = argparse.ArgumentParser(prog="benchmarks.unet3d", description=__doc__)
    parser.add_argument("--size", type=int, default=192, help="voxels along a side")
    parser.add_argument("--target", default="h100", help="GPU to compile for")
    parser.add_argument("--device", action="store_true", help="run on this machine")
    parser.add_argument("--method", help="only this one, with --device")
    parser.add_argument("--repeats", type=int, default=10, help="steps to time")
    parser.add_argument("--tiny", action="store_true", help="a small net and volume")
    parser.add_argument("--table", action="store_true", help="show what was measured")
    parser.add_argument(
        "--output", type=pathlib.Path, default=harness.RESULTS / "unet3d.jsonl"
    )
    options = parser.parse_args(arguments)
    unet, size = (TINY, 16) if options.tiny else (PAPER, options.size)
    if options.table:
        print(table(options.output))
    elif not options.device:
        for row in compare(size, options.target, CHANNELS, unet):
            measured = {"backend": "compiled", **dataclasses.asdict(row)}
            harness.record(measured, options.output)
    elif options.method:
        measured = run(options.method, size, options.repeats, unet)
        harness.record(measured, options.output)
    else:
        for method in methods(unet):
            run_alone(method, sys.argv[1:] if arguments is None else arguments)


def run(method: str, size: int, repeats: int, unet: UNet3D) -> dict[str, Any]:
    """Time one method's step on the default device, once its gradient is checked."""
    error = gradient_error(method, min(size, 32), unet)
    if not error <= GRADIENT_TOLERANCE:
        raise ValueError(f"the gradient of `{method}` is off by {error:.1%}.")
    measured = {"backend": "device", "method": method, "size": size}
    measured |= {"gradient_error": error}
    loss = methods(unet)[method]
    try:
        start = time.perf_counter()
        step = jax.jit(jax.value_and_grad(loss)).lower(*inputs(size, unet)).compile()
        measured["compile_seconds"] = time.perf_counter() - start
        values = inputs(size, unet)
        measured |= harness.seconds(lambda: step(*values), repeats)
    except jax.errors.JaxRuntimeError as failure:
        if "RESOURCE_EXHAUSTED" not in str(failure):
            raise
        measured["error"] = "out of memory"
    return measured | {"peak_bytes": harness.peak_bytes()}


def run_alone(method: str, arguments: list[str]) -> None:
    """Run one method in a process of its own: a device counts one peak a process."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.unet3d",
        *arguments,
        "--method",
        method,
    ]
    subprocess.run(command, check=True)


def gradient_error(method: str, size: int, unet: UNet3D) -> float:
    """Return the distance between a method's gradient and plain JAX's, relative."""
    unet = unet.clone(dtype=jnp.float32)
    losses, values = methods(unet), inputs(size, unet)
    with jax.default_matmul_precision("highest"):
        gradient = jax.jit(jax.grad(losses[method]))(*values)
        expected = jax.jit(jax.grad(losses["plain"]))(*values)
    difference = jax.tree.map(jnp.subtract, gradient, expected)
    return float(norm(difference) / norm(expected))


def norm(tree: Any) -> jax.Array:
    """Return the Euclidean norm of all numbers of a tree."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def inputs(size: int, unet: UNet3D) -> tuple[Any, jax.Array, jax.Array]:
    """Return parameters, random images and random targets of one volume."""
    key, draw = jax.random.split(jax.random.key(0))
    shape = (1, size, size, size)
    images = jax.random.normal(draw, (*shape, CHANNELS), unet.dtype)
    parameters = jax.jit(unet.init)(key, images[:, :16, :16, :16])
    targets = jax.random.bernoulli(draw, 0.3, (*shape, unet.classes))
    return parameters, images, targets.astype(unet.dtype)


def table(output: pathlib.Path) -> str:
    """Return the newest measurement of each kind as a Markdown table."""
    rows = {}
    for row in map(json.loads, output.read_text().splitlines()):
        where = row.get("target") or row["environment"]["device"]
        rows[row["backend"], where, row["size"], row["method"]] = row
    shown = [
        "| where | size | method | device MiB | host MiB | bytes exposed | step s |"
    ]
    shown.append("|---|---|---|---|---|---|---|")
    for (backend, where, size, method), row in rows.items():
        device = row.get("temp_bytes", row.get("peak_bytes"))
        copied, host = row.get("copied_bytes"), row.get("host_bytes")
        cells = [
            f"{where}, {'temporaries' if backend == 'compiled' else 'peak'}",
            f"{size}³",
            method,
            f"{device / 2**20:,.0f}" if device else "",
            f"{host / 2**20:,.0f}" if host else "",
            f"{row['exposed_bytes'] / copied:.0%}" if copied else "",
            f"{row['median_seconds']:.3f}" if "median_seconds" in row else "",
        ]
        shown.append(f"| {' | '.join(cells)} |")
    return "\n".join(shown)


if __name__ == "__main__":
    main()
