"""What does a whole training step need, optimizer included?

python -m benchmarks.training --target h100    plain and planned, read from programs
python -m benchmarks.training --table          the results as a table

Adam, batch 1, bfloat16 features, float32 parameters; images arrive in bfloat16 and
labels as bytes, as in `jaxswap train`. Four channels and three overlapping regions;
or, for `half-millimetre`, isensee2017 on the T1 template of 339 x 411 x 339 voxels with
32 structures, padded to what the network takes, on a card of 24 GB.
"""

import argparse
import pathlib
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import jaxswap
from benchmarks import harness
from jaxswap.medical.data.label_maps import LABEL_MAPS, make_label_map
from jaxswap.medical.networks.residual_unet import ResidualUNet3D
from jaxswap.medical.networks.unet import UNet3D
from jaxswap.medical.runs.state import State
from jaxswap.medical.training.training_step import make_loss, make_step

OUTPUT = harness.RESULTS / "training.jsonl"
GIB = 2**30
NETWORKS: dict[str, nn.Module] = {
    "isensee2017": UNet3D(),
    "residual": ResidualUNet3D(),
    "half-millimetre": UNet3D(classes=33),
}
STRUCTURES = make_label_map("structures", {f"structure {i}": i for i in range(1, 33)})
TARGETS = {"half-millimetre": "rtx4090"}
"""GPUs to compile for, where it is not the one that is asked for."""
BUDGETS: dict[tuple[str, tuple[int, int, int]], float] = {
    ("isensee2017", (192, 192, 192)): 2.2,
    ("residual", (192, 192, 192)): 6.0,
    ("isensee2017", (256, 256, 256)): 5.0,
    ("residual", (256, 256, 256)): 13.0,
    ("isensee2017", (320, 384, 320)): 11.0,
    ("isensee2017", (512, 512, 512)): 36.0,
    ("half-millimetre", (352, 416, 352)): 22.0,
}
"""Device memory in GiB that the step should fit."""


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not recorded yet, or show what is."""
    parser = argparse.ArgumentParser(prog="benchmarks.training", description=__doc__)
    parser.add_argument("--target", default="h100", help="GPU to compile for")
    parser.add_argument("--network", choices=NETWORKS, help="only this one")
    parser.add_argument("--table", action="store_true", help="show what was measured")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    if options.table:
        print(table(harness.rows_of(options.output)))
        return
    done = {
        (r["network"], tuple(r["shape"]), r["method"])
        for r in harness.rows_of(options.output)
    }
    for (name, shape), budget in BUDGETS.items():
        if options.network not in (None, name):
            continue
        for method in ("planned", "plain"):
            if (name, shape, method) not in done:
                target: str = TARGETS.get(name) or options.target
                row = measure(name, shape, method, budget, target)
                harness.record(row, options.output)


def measure(
    name: str, shape: tuple[int, int, int], method: str, budget: float, target: str
) -> dict[str, Any]:
    """Compile one training step and read its memory."""
    network = NETWORKS[name]
    is_tumour = name != "half-millimetre"
    label_map = LABEL_MAPS["brats2021"] if is_tumour else STRUCTURES
    loss: Any = make_loss(network, label_map)
    optimizer = optax.adam(1e-3)
    images = jax.ShapeDtypeStruct((1, *shape, 4 if is_tumour else 1), jnp.bfloat16)
    state, labels = arguments_of(network, optimizer, images)
    row: dict[str, Any] = {"network": name, "shape": shape, "method": method}
    row |= {"target": target, "budget_gib": budget}
    start = time.perf_counter()
    if method == "planned":
        key = jax.eval_shape(lambda: jax.random.key(0))
        plan = jaxswap.plan(
            loss,
            state.parameters,
            images,
            labels,
            key,
            budget=int(budget * GIB),
            reserve=nbytes(state.optimizer_state),
            target=target,
        )
        row |= {"simulated_seconds": plan.seconds, "plain_seconds": plan.plain.seconds}
        loss = jaxswap.offload(loss, plan=plan)
    options = jaxswap.compiler_options()
    step = make_step(loss, optimizer)
    seen = jaxswap.inspect(
        step, state, images, labels, target=target, compiler_options=options
    )
    copied = sum(copy.nbytes for copy in seen.copies)
    exposed = sum(copy.nbytes for copy in seen.exposed_copies)
    return row | {
        "device_bytes": seen.device_bytes,
        "temp_bytes": seen.temp_bytes,
        "host_bytes": seen.host_bytes,
        "copied_bytes": copied,
        "exposed_bytes": exposed,
        "all_seconds": round(time.perf_counter() - start, 1),
    }


def arguments_of(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    images: jax.ShapeDtypeStruct,
) -> tuple[State, jax.ShapeDtypeStruct]:
    """Types of a training step's state and labels."""
    labels = jax.ShapeDtypeStruct(images.shape[:-1], jnp.uint8)
    parameters = jax.eval_shape(network.init, jax.random.key(0), images)
    state = jax.eval_shape(optimizer.init, parameters)
    step: Any = jax.ShapeDtypeStruct((), jnp.int32)
    return State(parameters, state, (), step), labels


def nbytes(tree: Any) -> int:
    """Bytes of all arrays of a pytree."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown, planned beside plain."""
    lines = [
        "| network | volume | goal | planned | plain | step, simulated, of plain |",
        "|---|---|---:|---:|---:|---:|",
    ]
    by_key = {(r["network"], tuple(r["shape"]), r["method"]): r for r in rows}
    for (name, shape), budget in BUDGETS.items():
        planned = by_key.get((name, shape, "planned"))
        plain = by_key.get((name, shape, "plain"))
        volume = " x ".join(map(str, shape))
        slower = (
            f"{planned['simulated_seconds'] / planned['plain_seconds']:.2f} x"
            if planned
            else ""
        )
        cells = [
            f"{r['device_bytes'] / GIB:.2f} GiB" if r else "" for r in (planned, plain)
        ]
        lines.append(
            f"| {name} | {volume} | {budget} GiB | {cells[0]} | {cells[1]} | {slower} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
