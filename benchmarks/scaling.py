"""How many voxels per second do 1 to 64 GPUs train on, with and without swapping?

python -m benchmarks.scaling           plan what is missing; nothing is compiled or run
python -m benchmarks.scaling --table   show the figures and what they assume
python -m benchmarks.scaling --plot    draw them

Data parallel, one volume on each GPU, on paper: the step of a GPU is what
`jaxswap.plan` simulates for it as one of so many busy ones of its node, which share
links and host memory; the all-reduce is a ring (`all_reduce.py`).
"""

import argparse
import dataclasses
import functools
import pathlib
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

import jaxswap
from benchmarks import harness, sharded
from benchmarks.all_reduce import all_reduce_seconds
from benchmarks.scaling_report import NVLINK, PCIE3, PICTURE, plot, table
from benchmarks.training import nbytes
from jaxswap.medical.networks.unet import PAPER
from jaxswap.medical.networks.unet_program import unet_loss

OUTPUT = harness.RESULTS / "scaling.jsonl"
GPU_COUNTS = (1, 2, 4, 8, 16, 32, 64)
INPUT_BYTES_PER_VOXEL = sharded.CHANNELS * 4 + 1
"""Images in float32 and labels in bytes, as `jaxswap train` copies them to the GPU."""
USED_SHARE = 0.9
"""Share of a card's memory that is planned for; the rest is for convolutions' workspace
and the driver. An estimate."""
SMALL_LOSS = 0.05
"""A step that loses less than this to any one cause is limited by computation."""
SEARCH_SECONDS = 6.0
"""Processor time of each search for a plan."""

_PCIE3 = 15.75e9  # bytes/s each way of 16 lanes, PCI-SIG, after 128b/130b encoding


def machines() -> dict[str, jaxswap.Node]:
    """Return the nodes of the study by name.

    Three of today, and the papers' with its counterpart: the same GPUs and memory, two
    GPUs behind each PCIe 3.0 switch.
    """
    ac922 = jaxswap.find_node("ac922")
    pcie3 = dataclasses.replace(
        ac922,
        name="v100-pcie3",
        gpu=dataclasses.replace(
            ac922.gpu, name="v100-16", host_link_bytes_per_second=_PCIE3
        ),
        gpus_per_link=2,
        link_bytes_per_second=_PCIE3,
    )
    return {
        "A100 80 GB, PCIe 4 (DGX A100)": jaxswap.find_node("dgx-a100"),
        "H100 80 GB, PCIe 5 (DGX H100)": jaxswap.find_node("dgx-h100"),
        "GH200 96 GB, NVLink-C2C": jaxswap.find_node("gh200-node"),
        NVLINK: ac922,
        PCIE3: pcie3,
    }


@dataclass(frozen=True)
class Volume:
    """What each GPU trains on.

    Attributes:
        size: Voxels along each side.
        precision: Dtype of features.
        share: Of plain's device memory, to plan for; None: `USED_SHARE` of the card's.
    """

    size: int
    precision: str
    share: float | None = None


@dataclass(frozen=True)
class Step:
    """A simulated step of one GPU; `fits` is false if nothing was found that does.

    Attributes:
        seconds: The whole step.
        compute_seconds: Computation, recomputed values included; the rest is
            waiting for copies.
        device_bytes: Its device memory.
        host_bytes: Its host memory.
    """

    seconds: float
    compute_seconds: float
    device_bytes: int
    host_bytes: int
    fits: bool = True


def volumes(machine: str) -> tuple[Volume, Volume]:
    """Return a volume that fits any card, planned for 40 %, and one that does not."""
    if machine in (NVLINK, PCIE3):
        return Volume(192, "float32", 0.4), Volume(320, "float32")
    return Volume(192, "bfloat16", 0.4), Volume(512, "float32")


def methods_of(machine: str) -> tuple[str, ...]:
    """Return what is compared; the published system on the papers' machines alone."""
    own = ("plain", "recomputation only", "planned")
    return (*own, "TFLMSv2") if machine in (NVLINK, PCIE3) else own


def main(arguments: list[str] | None = None) -> None:
    """Plan what is not recorded yet, or show what is."""
    parser = argparse.ArgumentParser(prog="benchmarks.scaling", description=__doc__)
    parser.add_argument("--table", action="store_true", help="show the figures")
    parser.add_argument("--plot", action="store_true", help="draw them")
    parser.add_argument("--picture", type=pathlib.Path, default=PICTURE)
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    rows = harness.rows_of(options.output)
    if options.table:
        print(table(rows))
    if options.plot:
        plot(rows, options.picture)
    if options.table or options.plot:
        return
    done = {(r["machine"], r["size"], r["method"], r["gpus"]) for r in rows}
    for machine, node in machines().items():
        for volume in volumes(machine):
            for method in methods_of(machine):
                for count in GPU_COUNTS:
                    if (machine, volume.size, method, count) not in done:
                        row = {"machine": machine, "method": method}
                        row |= measure(node, volume, method, count)
                        harness.record(row, options.output)


def measure(
    node: jaxswap.Node, volume: Volume, method: str, gpu_count: int
) -> dict[str, Any]:
    """Return the figures of so many GPUs and what limits them."""
    busy = node.busy(gpu_count)
    plain = step_of(node, volume, "plain", 1)
    alone = step_of(node, volume, method, 1)
    step = step_of(node, volume, method, like(node, busy))
    row: dict[str, Any] = {
        **dataclasses.asdict(volume),
        "gpus": gpu_count,
        "node_gpus": node.gpu_count,
        "budget_bytes": budget_of(node, volume),
        "plain_bytes": plain.device_bytes,
        "device_bytes": step.device_bytes,
        "host_bytes": step.host_bytes,
    }
    if not step.fits:
        return row | {"voxels_per_second": None, "limit": "device memory"}
    if step.host_bytes > node.host_bytes_each(busy):
        return row | {"voxels_per_second": None, "limit": "host memory"}
    seconds = {
        "computation": plain.seconds,
        "recomputation": alone.compute_seconds - plain.seconds,
        "host link": alone.seconds - alone.compute_seconds,
        "shared host link": step.seconds - alone.seconds,
        "all-reduce": all_reduce_seconds(gradient_bytes(volume), gpu_count, node),
        "input copy": input_seconds(node, volume, busy),
    }
    total = sum(seconds.values())
    return row | {
        "seconds": seconds,
        "step_seconds": total,
        "voxels_per_second": gpu_count * volume.size**3 / total,
        "limit": limit_of(seconds),
    }


def limit_of(seconds: dict[str, float]) -> str:
    """Name what costs a step most besides its computation, if that is much."""
    losses = {name: s for name, s in seconds.items() if name != "computation"}
    worst = max(losses, key=lambda name: losses[name])
    is_small = losses[worst] < SMALL_LOSS * sum(seconds.values())
    return "computation" if is_small else worst


def input_seconds(node: jaxswap.Node, volume: Volume, busy: int) -> float:
    """Estimate the copy of a volume to the GPU, which nothing else runs beside."""
    rates = node.gpu_among(busy).rates
    assert rates is not None
    copied = INPUT_BYTES_PER_VOXEL * volume.size**3
    return rates.copy_latency_seconds + copied / rates.swap_in_bytes_per_second


def like(node: jaxswap.Node, busy: int) -> int:
    """The fewest busy GPUs of a node that have the same rates each."""

    def rates(count: int) -> Any:
        found = node.gpu_among(count).rates
        assert found is not None
        return dataclasses.replace(found, source="")

    return next(n for n in range(1, busy + 1) if rates(n) == rates(busy))


@functools.cache
def step_of(node: jaxswap.Node, volume: Volume, method: str, busy: int) -> Step:
    """Plan the step of one of so many busy GPUs."""
    if method == "plain":
        timeline = planned(node, volume, 1, None, policy=jaxswap.KEEP).plain
        step = Step(timeline.seconds, timeline.seconds, timeline.device_bytes, 0)
        is_small = step.device_bytes <= card_bytes(node)
        return dataclasses.replace(step, fits=is_small)
    budget = budget_of(node, volume)
    if method == "TFLMSv2":
        return attempt(node, volume, busy, budget, policy=jaxswap.policies.TFLMSv2())
    if method == "recomputation only":
        if busy > 1:
            return step_of(node, volume, method, 1)
        return attempt(node, volume, 1, budget, host_budget=0)
    # What swaps nothing, or was planned for a slower link, is a plan for this one too.
    found = [step_of(node, volume, "recomputation only", 1)]
    for count in sorted({busy, like(node, node.gpu_count)}):
        found.append(attempt(node, volume, count, budget))
    return min(found, key=lambda step: (not step.fits, step.seconds))


@functools.cache
def attempt(
    node: jaxswap.Node, volume: Volume, busy: int, budget: int, **options: Any
) -> Step:
    """Plan within a budget of device memory; a step that does not fit if none is."""
    try:
        plan = planned(node, volume, busy, budget, **options)
    except jaxswap.BudgetError as error:
        return Step(0.0, 0.0, error.smallest_bytes, 0, fits=False)
    timeline = plan.timeline
    return Step(
        plan.seconds, timeline.compute_seconds, plan.device_bytes, plan.host_bytes
    )


def planned(
    node: jaxswap.Node, volume: Volume, busy: int, budget: int | None, **options: Any
) -> jaxswap.Plan:
    """Plan one GPU's loss and gradient of one volume."""
    network = PAPER.clone(dtype=jnp.dtype(volume.precision))
    options = {"host_budget": node.host_bytes_each(busy)} | options
    if "policy" not in options:
        options["search_seconds"] = SEARCH_SECONDS
    return jaxswap.plan(
        unet_loss(network),
        *sharded.described(volume.size, 1, {}, network),
        budget=budget,
        target=node.gpu_among(busy),
        compile=False,
        progress=False,
        **options,
    )


@functools.cache
def budget_of(node: jaxswap.Node, volume: Volume) -> int:
    """Device memory to plan for."""
    if volume.share is None:
        return card_bytes(node)
    return int(volume.share * step_of(node, volume, "plain", 1).device_bytes)


def card_bytes(node: jaxswap.Node) -> int:
    """Device memory of a card that a training step may use."""
    return int(USED_SHARE * node.gpu.memory_bytes)


def gradient_bytes(volume: Volume) -> int:
    """Bytes of the gradient, which has the dtype of the parameters."""
    parameters, *_ = sharded.described(volume.size, 1, {})
    return nbytes(parameters)


if __name__ == "__main__":
    main()
