"""How near are plans to their goals? Nothing is compiled, everything is simulated.

python -m benchmarks.goals                         all programs, as a table
python -m benchmarks.goals --program mlp           one of them

Each program is planned for a half, a third and a quarter of what plain JAX's compiled
step needs. For the U-Nets of 320 voxels a side that is simulated. The table has the
step's time in times of plain's, its goal, the planner's lower bound, and how long
tracing and planning took a processor.
"""

import argparse
import time

import jaxswap
from benchmarks.harness import rows_of
from benchmarks.planner import OUTPUT
from benchmarks.programs import Program, find_program

SHARES = {"half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4}
GOALS: dict[str, tuple[float, ...]] = {
    "unet3d-192-bf16": (1.03, 1.10, 1.35),
    "unet3d-320-fp32": (1.02, 1.08, 1.30),
    "transformer-unrolled": (1.05, 1.10, 1.14),
    "transformer-scanned": (1.06, 1.12, 1.18),
    "resnet50-512": (1.08, 1.20, float("inf")),
    "mlp": (1.10, 1.35, float("inf")),
}
"""Times of plain's step time. Infinite: any plan that fits will do."""
TARGET = "h200"
HEAD = (
    "| program | budget | step, of plain | goal | lower bound | device, of plain "
    "| processor |\n|---|---|---|---|---|---|---|"
)


def main(arguments: list[str] | None = None) -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(prog="benchmarks.goals", description=__doc__)
    parser.add_argument("--program", action="append", choices=list(GOALS))
    parser.add_argument("--tiny", action="store_true", help="programs of seconds")
    options = parser.parse_args(arguments)
    print(HEAD, flush=True)
    for name in options.program or GOALS:
        program = find_program(name, is_tiny=options.tiny)
        recorded = None if options.tiny else recorded_bytes(name)
        plain_bytes = recorded or simulated_bytes(program)
        for (budget, share), goal in zip(SHARES.items(), GOALS[name], strict=True):
            cells = [name, budget, *row(program, int(share * plain_bytes), goal)]
            print(f"| {' | '.join(cells)} |", flush=True)


def recorded_bytes(name: str) -> int | None:
    """Return the device memory of plain JAX's step, if it was compiled before.

    An H200 runs the programs of an H100.
    """
    found = (
        r for r in rows_of(OUTPUT) if (r["program"], r["target"]) == (name, "h100")
    )
    return next((row["plain_device_bytes"] for row in found), None)


def simulated_bytes(program: Program) -> int:
    """Return the device memory of plain JAX's step, simulated."""
    loss, args = program()
    kept = jaxswap.plan(
        loss, *args, target=TARGET, policy=jaxswap.KEEP, compile=False, progress=False
    )
    return kept.plain.device_bytes


def row(program: Program, budget: int, goal: float) -> list[str]:
    """Plan for one budget, and return the cells of its line."""
    loss, args = program()
    start = time.process_time()
    try:
        plan = jaxswap.plan(
            loss, *args, budget=budget, target=TARGET, compile=False, progress=False
        )
    except jaxswap.BudgetError as error:
        share = error.smallest_bytes / budget
        cells = [f"refused; {share:.2f} times the budget works", "", "", ""]
    else:
        plain = plan.plain
        cells = [
            f"{plan.seconds / plain.seconds:.3f}",
            "feasible" if goal == float("inf") else f"{goal:.2f}",
            f"{plan.bound_seconds / plain.seconds:.3f}",
            f"{plan.device_bytes / plain.device_bytes:.3f}",
        ]
    return [*cells, f"{time.process_time() - start:.1f} s"]


if __name__ == "__main__":
    main()
