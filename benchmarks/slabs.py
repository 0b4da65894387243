"""What do plans with slabs reach? Volumes whose single layers are large.

python -m benchmarks.slabs                 compile what is missing, minutes each
python -m benchmarks.slabs --case NAME     one case
python -m benchmarks.slabs --table         show what was compiled

Nothing says where to cut, or whether to: the plans are those of `slabs="auto"`. A case
is a loss with its gradient and what it should need: a share of plain's temporaries, or
a budget. Or it is a whole training step with Adam, as in `benchmarks.training`. Bytes
are read from programs that were compiled for the target; seconds are simulated.
"""

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

import jaxswap
from benchmarks import harness, training
from benchmarks.programs import Args, Loss, classifier, find_program
from benchmarks.resnet import ResNet

OUTPUT = harness.RESULTS / "slabs.jsonl"
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss with its gradient, and what it should need.

    Attributes:
        program: Returns the loss and its arguments.
        share: The goal, as a share of plain's temporaries.
        budget_bytes: The goal where plain is not asked: all device memory.
    """

    program: Callable[[], tuple[Loss, Args]]
    share: float | None = None
    budget_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step, and the device memory that it should fit.

    Attributes:
        network: One of `training.NETWORKS`.
        shape: Voxels of a volume.
        budget_gib: Its device memory.
    """

    network: str
    shape: tuple[int, int, int]
    budget_gib: float


CASES: dict[str, Case | Step] = {
    "U-Net 192³, bf16": Case(find_program("unet3d-192-bf16"), share=0.12),
    "U-Net 512³, bf16": Case(find_program("unet3d-512-bf16"), share=0.09),
    "U-Net 448³, fp32": Case(find_program("unet3d-448-fp32"), budget_bytes=16 * 10**9),
    "U-Net 512³, bf16, step": Step("isensee2017", (512, 512, 512), 12.0),
    "residual encoder 256³, step": Step("residual", (256, 256, 256), 5.0),
    "head of 0.5 mm, step": Step("half-millimetre", (352, 416, 352), 8.0),
    "U-Net 320³, bf16": Case(find_program("unet3d-320-bf16"), share=0.10),
    "ResNet-50, 8 x 2048²": Case(partial(classifier, ResNet(), 2048, 8), share=0.25),
}


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not recorded yet, or show what is."""
    parser = argparse.ArgumentParser(prog="benchmarks.slabs", description=__doc__)
    parser.add_argument("--target", default="h200", help="GPU to compile for")
    parser.add_argument("--case", action="append", choices=CASES, help="only this one")
    parser.add_argument("--table", action="store_true", help="show what was compiled")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    if options.table:
        print(table(harness.rows_of(options.output)))
        return
    done = {row["case"] for row in harness.rows_of(options.output)}
    for name in options.case or CASES:
        if name not in done:
            row = measure(CASES[name], options.target)
            harness.record({"case": name} | row, options.output)


def measure(
    case: Case | Step, target: str, *, is_compiled: bool = True
) -> dict[str, Any]:
    """Plan a case. Without a compiler, bytes are simulated."""
    start = time.perf_counter()
    if isinstance(case, Step):
        target = training.TARGETS.get(case.network, target)
        budget_bytes = int(case.budget_gib * GIB)
        made = partial(training.measure, case.network, case.shape, "planned")
        row = _or_error(lambda: made(case.budget_gib, target))
    else:
        loss, args = case.program()
        row = _plain(loss, args, target, is_compiled) if case.share else {}
        budget_bytes = case.budget_bytes
        if case.share:
            budget_bytes = row["plain_given_bytes"]
            budget_bytes += int(case.share * row["plain_temp_bytes"])
        options: Any = {"budget": budget_bytes, "target": target}
        options["compile"] = is_compiled
        row |= _or_error(lambda: _planned(jaxswap.plan(loss, *args, **options)))
    row |= {"target": target, "budget_bytes": budget_bytes}
    return row | {"all_seconds": round(time.perf_counter() - start, 1)}


def _or_error(made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a row, or the least that was found where nothing fits."""
    try:
        return made()
    except jaxswap.BudgetError as error:
        return {"smallest_bytes": error.smallest_bytes}


def _plain(loss: Loss, args: Args, target: str, is_compiled: bool) -> dict[str, int]:
    """Return what JAX's own step needs."""
    if not is_compiled:
        options: Any = {"budget": "1024TiB", "target": target, "compile": False}
        plain = jaxswap.plan(loss, *args, slabs=None, **options).plain
        return {"plain_given_bytes": 0, "plain_temp_bytes": plain.device_bytes}
    seen = jaxswap.inspect(jax.value_and_grad(loss), *args, target=target)
    given = seen.device_bytes - seen.temp_bytes
    return {"plain_given_bytes": given, "plain_temp_bytes": seen.temp_bytes}


def _planned(plan: jaxswap.Plan) -> dict[str, Any]:
    """Return what a plan says of its program."""
    seen = plan.compiled
    row: dict[str, Any] = {
        "slabs": None if plan.slabs is None else dataclasses.asdict(plan.slabs),
        "simulated_seconds": plan.seconds,
        "plain_seconds": plan.plain.seconds,
        "device_bytes": plan.device_bytes,
    }
    if seen is not None:
        row |= {
            "device_bytes": seen.device_bytes,
            "temp_bytes": seen.temp_bytes,
            "host_bytes": seen.host_bytes,
            "copied_bytes": seen.swapped_bytes,
            "exposed_bytes": seen.exposed_bytes,
            "compile_count": seen.compile_count,
        }
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown, each beside its goal."""
    lines = [
        "| program | slabs | budget | device | temp of plain, goal | host | exposed | "
        "step, simulated, of plain |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, case in CASES.items():
        for row in rows:
            if row["case"] == name:
                lines.append(f"| {name} | {' | '.join(_cells(row, case))} |")
    return "\n".join(lines)


def _cells(row: dict[str, Any], case: Case | Step) -> list[str]:
    budget = f"{row['budget_bytes'] / GIB:.2f} GiB"
    if "device_bytes" not in row:
        least = f"does not fit, {row['smallest_bytes'] / GIB:.2f} GiB"
        return ["", budget, least, "", "", "", ""]
    shares, copied = "", row.get("copied_bytes")
    if isinstance(case, Case) and case.share and "temp_bytes" in row:
        shares = f"{row['temp_bytes'] / row['plain_temp_bytes']:.3f}, {case.share}"
    slabs = row.get("slabs")
    return [
        f"{slabs['levels']}x{slabs['count']}" if slabs else "",
        budget,
        f"{row['device_bytes'] / GIB:.2f} GiB",
        shares,
        f"{row['host_bytes'] / GIB:.2f} GiB" if "host_bytes" in row else "",
        f"{row['exposed_bytes'] / copied:.0%}" if copied else "",
        f"{row['simulated_seconds'] / row['plain_seconds']:.2f} x",
    ]


if __name__ == "__main__":
    main()
