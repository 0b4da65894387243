"""What does each of several GPUs need, and what do they send to one another?

python -m benchmarks.sharded --target h100     compile what is missing
python -m benchmarks.sharded --table           show what was compiled

The U-Net's loss and gradient, split over a mesh: volumes over `data`, the first axis of
each volume over `depth`. Each case is compiled plain, with `jaxswap.offload` by the
rule that knows no budget, and planned for a share of what plain needs. Nothing is
executed.
"""

import argparse
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxswap
from benchmarks import harness
from jaxswap.medical.networks.unet import PAPER, UNet3D
from jaxswap.medical.networks.unet_program import unet_loss

OUTPUT = harness.RESULTS / "sharded.jsonl"
CHANNELS = 4
CASES: tuple[tuple[int, int, dict[str, int]], ...] = (
    (192, 4, {"data": 4}),
    (192, 8, {"data": 8}),
    (256, 1, {"depth": 4}),
    (256, 1, {}),
    (192, 2, {"data": 2, "depth": 2}),
    (256, 2, {"data": 2, "depth": 4}),
)
"""Voxels along a side, volumes, mesh."""
SHARES = (None, 0.5, 0.4)
"""Of plain's device memory, to plan for; `None`: SwapHeavy, a rule without a budget."""


def main(arguments: list[str] | None = None) -> None:
    """Run the measurement that the command line asks for."""
    parser = argparse.ArgumentParser(prog="benchmarks.sharded", description=__doc__)
    parser.add_argument("--target", default="h100", help="GPU to compile for")
    parser.add_argument("--table", action="store_true", help="show what was compiled")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    if options.table:
        print(table(harness.rows_of(options.output)))
        return
    for size, batch, mesh in CASES:
        case = {"size": size, "batch": batch, "mesh": mesh, "target": options.target}
        for method in ("plain", *SHARES) if mesh else ("plain",):
            row = case | {"method": name_of(method)}
            rows = harness.rows_of(options.output)
            if not any(all(done[k] == v for k, v in row.items()) for done in rows):
                harness.record(row | measure(case, method, rows), options.output)


def name_of(method: str | float | None) -> str:
    """How a row calls a method."""
    if isinstance(method, int | float):
        return f"planned for {method:.0%}"
    return "jaxswap.offload" if method is None else method


def measure(
    case: dict[str, Any], method: str | float | None, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Compile value and gradient of a case."""
    arguments = described(case["size"], case["batch"], case["mesh"])
    loss = unet_loss(PAPER)
    planned: dict[str, Any] = {}
    if isinstance(method, float):
        wanted = (case | {"method": "plain"}).items()
        plain = next(row for row in rows if all(row[k] == v for k, v in wanted))
        plan = jaxswap.plan(
            loss,
            *arguments,
            budget=int(method * device_bytes(plain)),
            target=case["target"],
        )
        planned = {
            "budget_bytes": plan.budget_bytes,
            "predicted_bytes": plan.compiled and plan.compiled.predicted_device_bytes,
            "simulated_seconds": plan.seconds,
            "simulated_plain_seconds": plan.plain.seconds,
        }
        loss = jaxswap.offload(loss, plan=plan)
    elif method is None:
        shardings = tuple(
            jax.tree.map(lambda leaf: leaf.sharding, argument) for argument in arguments
        )
        policy = jaxswap.policies.SwapHeavy()
        loss = jaxswap.offload(loss, policy=policy, in_shardings=shardings)
    seen = jaxswap.inspect(
        jax.value_and_grad(loss),
        *arguments,
        target=case["target"],
        compiler_options=jaxswap.compiler_options(),
    )
    kinds = sorted({one.kind for one in seen.collectives})
    return planned | {
        "argument_bytes": seen.argument_bytes,
        "output_bytes": seen.output_bytes,
        "temp_bytes": seen.temp_bytes,
        "host_bytes": seen.host_bytes,
        "copied_bytes": seen.swapped_bytes,
        "exposed_bytes": seen.exposed_bytes,
        "collectives": {
            kind: {
                "count": sum(
                    one.repeats for one in seen.collectives if one.kind == kind
                ),
                "bytes": sum(
                    one.total_bytes for one in seen.collectives if one.kind == kind
                ),
            }
            for kind in kinds
        },
        "compile_seconds": seen.compile_seconds,
    }


def described(
    size: int, batch: int, axes: dict[str, int], network: UNet3D = PAPER
) -> tuple[Any, Any, Any]:
    """Describe parameters, images and targets of a batch, split over a mesh."""
    names = tuple(axes)
    mesh = AbstractMesh(
        tuple(axes.values()), names, axis_types=(AxisType.Auto,) * len(names)
    )

    def struct(shape: tuple[int, ...], dtype: Any, spec: P) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(mesh, spec) if names else None
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    space = P(*(name if name in axes else None for name in ("data", "depth")))
    shape = (batch, size, size, size)
    small = jax.ShapeDtypeStruct((1, 16, 16, 16, CHANNELS), network.dtype)
    parameters = jax.tree.map(
        lambda leaf: struct(leaf.shape, leaf.dtype, P()),
        jax.eval_shape(network.init, jax.random.key(0), small),
    )
    images = struct((*shape, CHANNELS), jnp.dtype(network.dtype), space)
    targets = struct((*shape, network.classes), jnp.dtype(network.dtype), space)
    return parameters, images, targets


def device_bytes(row: dict[str, Any]) -> int:
    """Device memory of one GPU."""
    return row["argument_bytes"] + row["output_bytes"] + row["temp_bytes"]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown, each beside plain of its case."""
    lines = [
        "| volumes | mesh | method | device temp of each GPU | of plain | exposed | "
        "all-reduces | halo exchanges |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        plain = next(
            r
            for r in rows
            if r["method"] == "plain"
            and all(r[key] == row[key] for key in ("size", "batch", "mesh", "target"))
        )
        copied = row["copied_bytes"]
        cells = [
            f"{row['batch']} x {row['size']}³",
            ", ".join(f"{k} {n}" for k, n in row["mesh"].items()) or "one GPU",
            row["method"],
            f"{row['temp_bytes'] / 2**20:,.0f} MiB",
            f"{row['temp_bytes'] / plain['temp_bytes']:.2f}",
            f"{row['exposed_bytes'] / copied:.0%}" if copied else "",
            sent(row, "all-reduce"),
            sent(row, "collective-permute"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def sent(row: dict[str, Any], kind: str) -> str:
    """Number and size of a kind of collective."""
    found = row["collectives"].get(kind)
    return f"{found['count']}, {found['bytes'] / 2**20:,.1f} MiB" if found else ""


if __name__ == "__main__":
    main()
