"""What does the planner make of each program, and how do other policies compare?

python -m benchmarks.planner --target h100 --target a100-40      measure what is missing
python -m benchmarks.planner --table                             the results as tables
python -m benchmarks.planner --plots                             the Pareto curves

For each program and target: the budgets are shares of what plain JAX's compiled step
needs, and the smallest for which a plan was found. Device bytes are read from programs
compiled for the target, seconds are simulated at its published rates, and every
policy is tuned and simulated at the same budget, less what compiled programs were seen
to need beyond the simulation. One that would be faster than the plan is compiled too:
it counts only if its program fits. Searches are limited in processor time.
"""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import jaxswap
from benchmarks import compiled, harness
from benchmarks.case import Case
from benchmarks.programs import PROGRAMS, TINY, Program
from jaxswap import policies

SHARES = (0.8, 0.65, 0.5, 0.4)
OUTPUT = harness.RESULTS / "planner.jsonl"
TIMED = "50%"
"""The budget at which planning without compiles is timed."""
COMPILES = 4


def main(arguments: list[str] | None = None, until: float | None = None) -> int:
    """Measure, or show what was measured.

    Args:
        arguments: The command line; that of the process by default.
        until: Time of `time.monotonic` when to stop.

    Returns:
        How many programs were not reached in time.
    """
    options = _parser().parse_args(arguments)
    if options.table:
        print(tables(options.output))
        return 0
    if options.plots:
        for path in plots(options.output):
            print(path)
        return 0
    if options.one:
        program, target = options.one
        measure(program, target, options.output, is_tiny=options.tiny)
        return 0
    left = 0
    for target in options.target or ("h100", "a100-40"):
        for program in options.program or PROGRAMS:
            left += not _measure_alone(program, target, options, until)
    return left


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.planner", description=__doc__)
    parser.add_argument("--target", action="append", help="GPU to plan for")
    parser.add_argument("--program", action="append", choices=list(PROGRAMS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help="programs of seconds")
    parser.add_argument("--table", action="store_true", help="show what was measured")
    parser.add_argument("--plots", action="store_true", help="draw what was measured")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    return parser


def _measure_alone(
    program: str, target: str, options: argparse.Namespace, until: float | None
) -> bool:
    """Measure in a process of its own; return whether it got done in time."""
    if not _missing(program, target, options.output):
        return True
    command = [sys.executable, "-m", "benchmarks.planner", "--one", program, target]
    command += ["--output", str(options.output), *(["--tiny"] * options.tiny)]
    left = None if until is None else until - time.monotonic()
    if left is not None and left <= 0:
        return False
    try:
        # Plans of earlier versions are not looked up.
        with tempfile.TemporaryDirectory(prefix="jaxswap-plans-") as plans:
            environment = os.environ | {"JAXSWAP_CACHE_DIR": plans}
            subprocess.run(command, check=True, timeout=left, env=environment)
    except subprocess.TimeoutExpired:
        return False
    return True


def _missing(program: str, target: str, output: pathlib.Path) -> list[str]:
    """Budgets that were not planned for yet."""
    done = {
        (row["program"], row["target"], row["budget"])
        for row in harness.rows_of(output)
    }
    names = [*(f"{share:.0%}" for share in SHARES), "smallest"]
    return [name for name in names if (program, target, name) not in done]


def measure(
    program: str, target: str, output: pathlib.Path, *, is_tiny: bool = False
) -> None:
    """Plan one program for all budgets; skip those that were planned before."""
    missing = _missing(program, target, output)
    if not missing:
        return
    build = (TINY if is_tiny else PROGRAMS)[program]
    plain_bytes = plain_device_bytes(program, target, output, is_tiny=is_tiny)
    budgets: dict[str, int | str] = {
        f"{share:.0%}": int(share * plain_bytes) for share in SHARES
    }
    budgets["smallest"] = "smallest"
    for name in missing:
        budget = budgets[name]
        row: dict[str, Any] = {"program": program, "target": target, "budget": name}
        row |= {"plain_device_bytes": plain_bytes}
        if name == TIMED:
            row["planning_seconds"] = planning_seconds(build, target, budget)
        row |= planned(build, target, budget)
        # What programs need beyond the simulation, others would need as well.
        limit = row["budget_bytes"] - max(0, row.get("correction_bytes", 0))
        row["policies"] = simulated(build, target, limit)
        row["refuted"] = refuted(build, target, row)
        harness.record(row, output)


def planned(program: Program, target: str, budget: int | str) -> dict[str, Any]:
    """Plan for one budget, with compiles."""
    loss, args = program()
    options: dict[str, Any] = {"budget": budget, "target": target}
    start = time.perf_counter()
    try:
        plan = jaxswap.plan(loss, *args, **options, most_compiles=COMPILES)
    except jaxswap.BudgetError as error:
        return {
            "fits": False,
            "budget_bytes": budget,
            "smallest_bytes": error.smallest_bytes,
            "in_the_way": error.in_the_way[:3],
            "all_seconds": time.perf_counter() - start,
        }
    assert plan.compiled is not None
    timeline = plan.timeline
    return {
        "fits": True,
        "budget_bytes": plan.device_bytes if budget == "smallest" else budget,
        "correction_bytes": plan.correction_bytes,
        "predicted_device_bytes": plan.compiled.predicted_device_bytes,
        "device_bytes": plan.compiled.device_bytes,
        "temp_bytes": plan.compiled.temp_bytes,
        "host_bytes": plan.compiled.host_bytes,
        "swapped_bytes": plan.compiled.swapped_bytes,
        "exposed_bytes": plan.compiled.exposed_bytes,
        "compile_count": plan.compiled.compile_count,
        "simulated_seconds": plan.seconds,
        "plain_simulated_seconds": plan.plain.seconds,
        "bound_seconds": plan.bound_seconds,
        "stall_seconds": timeline.stall_seconds,
        "recompute_seconds": timeline.recompute_seconds,
        "all_seconds": time.perf_counter() - start,
    }


def planning_seconds(program: Program, target: str, budget: int | str) -> float:
    """Seconds to trace and plan a program, without compiling it."""
    loss, args = program()
    start = time.perf_counter()
    with contextlib.suppress(jaxswap.BudgetError):
        jaxswap.plan(
            loss, *args, budget=budget, target=target, compile=False, progress=False
        )
    return time.perf_counter() - start


def simulated(program: Program, target: str, budget: int) -> dict[str, float | None]:
    """Simulated seconds of every policy at a budget; `None` where it does not fit."""
    loss, args = program()
    found: dict[str, float | None] = {}
    for name in (*policies.PUBLISHED, *policies.JAX_OWN):
        try:
            plan = jaxswap.plan(
                loss,
                *args,
                budget=budget,
                target=target,
                policy=getattr(policies, name)(),
                compile=False,
                progress=False,
            )
        except jaxswap.BudgetError:
            found[name] = None
        else:
            found[name] = plan.seconds
    return found


def refuted(program: Program, target: str, row: dict[str, Any]) -> dict[str, int]:
    """Device bytes of policies that are faster on paper but do not fit when compiled.

    Those are taken out of the row's `policies`.
    """
    loss, args = program()
    found: dict[str, int] = {}
    for name, seconds in row["policies"].items():
        if seconds is None or seconds >= row.get("simulated_seconds", 0) * (1 - 1e-9):
            continue
        policy = getattr(policies, name)()
        options: dict[str, Any] = {"budget": row["budget_bytes"], "target": target}
        try:
            jaxswap.plan(loss, *args, policy=policy, **options)
        except jaxswap.BudgetError as error:
            found[name] = error.smallest_bytes
    row["policies"] |= dict.fromkeys(found)
    return found


def plain_device_bytes(
    program: str, target: str, output: pathlib.Path, *, is_tiny: bool = False
) -> int:
    """Device bytes of plain JAX's compiled step: recorded, or compiled now."""
    for row in harness.rows_of(output):
        if (row["program"], row["target"]) == (program, target):
            return row["plain_device_bytes"]
    case = Case("planner", program, "plain", target=target, is_tiny=is_tiny)
    return compiled.measure(case)["device_bytes"]


def tables(output: pathlib.Path) -> str:
    """Return one Markdown table for each target, and what the goals come to."""
    rows = harness.rows_of(output)
    lines: list[str] = []
    for target in dict.fromkeys(row["target"] for row in rows):
        lines += [
            f"### {target}",
            "",
            "| program | budget | device MiB (of plain) | prediction off by | host MiB "
            "| exposed | step ms (plain) | gap | best other policy ms |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in rows if row["target"] == target]
        lines.append("")
    return "\n".join([*lines, *_goals(rows)])


def _line(row: dict[str, Any]) -> str:
    if not row["fits"]:
        smallest = row["smallest_bytes"] / row["plain_device_bytes"]
        cells = [row["program"], row["budget"], f"none fits; smallest {smallest:.2f}"]
        return f"| {' | '.join([*cells, *[''] * 6])} |"
    others = [s for s in row["policies"].values() if s is not None]
    swapped = row["swapped_bytes"]
    cells = [
        row["program"],
        row["budget"],
        f"{row['device_bytes'] / 2**20:,.0f} "
        f"({row['device_bytes'] / row['plain_device_bytes']:.2f})",
        f"{_error(row):+.1%}",
        f"{row['host_bytes'] / 2**20:,.0f}",
        f"{row['exposed_bytes'] / swapped:.0%}" if swapped else "",
        f"{row['simulated_seconds'] * 1e3:.2f} "
        f"({row['plain_simulated_seconds'] * 1e3:.2f})",
        f"{1 - row['bound_seconds'] / row['simulated_seconds']:.1%}",
        f"{min(others) * 1e3:.2f}" if others else "none fits",
    ]
    return f"| {' | '.join(cells)} |"


def _error(row: dict[str, Any]) -> float:
    return row["predicted_device_bytes"] / row["device_bytes"] - 1


def _goals(rows: list[dict[str, Any]]) -> list[str]:
    """The goals of the suite, counted."""
    fit = [row for row in rows if row["fits"]]
    if not fit:
        return ["- no budget has a plan"]
    errors = sorted(abs(_error(row)) for row in fit)
    over = [row for row in fit if row["device_bytes"] > row["budget_bytes"]]
    slower = [
        row
        for row in fit
        if any(
            s is not None and s < row["simulated_seconds"] * (1 - 1e-9)
            for s in row["policies"].values()
        )
    ]
    wide = [row for row in fit if row["budget"] in ("80%", "65%", "50%")]
    exposed = [r for r in wide if r["exposed_bytes"] > 0.05 * r["swapped_bytes"]]
    planning = max(row.get("planning_seconds", 0.0) for row in rows)
    names = [f"{row['program']} {row['target']} {row['budget']}" for row in exposed]
    return [
        f"- {len(fit)} of {len(rows)} budgets have a plan; {len(over)} of these need "
        "more than the budget when compiled",
        "- predicted against compiled device bytes: median "
        f"{errors[len(errors) // 2]:.1%}, worst {errors[-1]:.1%}, "
        f"{sum(e > 0.05 for e in errors)} above 5 %",
        f"- {len(slower)} plans are slower (simulated) than another policy that fits",
        f"- {len(exposed)} of {len(wide)} plans at 50 % and above have more than 5 % "
        f"of their swapped bytes exposed: {', '.join(names) or 'none'}",
        f"- planning without compiles took at most {planning:.1f} s",
    ]


def plots(output: pathlib.Path) -> list[pathlib.Path]:
    """Draw device bytes against step time, one picture for each program and target."""
    rows = harness.rows_of(output)
    written = []
    for program, target in dict.fromkeys((r["program"], r["target"]) for r in rows):
        mine = [
            row
            for row in rows
            if (row["program"], row["target"]) == (program, target) and row["fits"]
        ]
        if not mine:
            continue
        plain = jaxswap.Point(
            method="plain",
            budget_bytes=None,
            device_bytes=mine[0]["plain_device_bytes"],
            host_bytes=0,
            seconds=mine[0]["plain_simulated_seconds"],
            fits=True,
        )
        points = tuple(point for row in mine for point in points_of(row))
        path = output.with_name(f"pareto-{program}-{target}.png")
        jaxswap.Pareto(f"{program} on {target}", plain, points).plot(path)
        written.append(path)
    return written


def points_of(row: dict[str, Any]) -> list[jaxswap.Point]:
    """The plan of a row, and the policies that fit its budget."""
    own = jaxswap.Point(
        method="jaxswap",
        budget_bytes=row["budget_bytes"],
        device_bytes=row["device_bytes"],
        host_bytes=row["host_bytes"],
        seconds=row["simulated_seconds"],
        fits=True,
        bound_seconds=row["bound_seconds"],
    )
    others = [
        jaxswap.Point(name, row["budget_bytes"], row["budget_bytes"], 0, seconds, True)
        for name, seconds in row["policies"].items()
        if seconds is not None
    ]
    return [own, *others]


if __name__ == "__main__":
    main()
