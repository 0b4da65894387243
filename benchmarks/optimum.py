"""How far from the optimum are plans of small programs?

python -m benchmarks.optimum --programs 220        measure
python -m benchmarks.optimum --table               the results as a table

Random programs are planned below several limits, and every layout of every choice
(keep, offload, recompute) is simulated beside it. The brute force leaves out layouts
that cannot win: those too large even for no limit, or too slow even without one.
"""

import argparse
import importlib
import json
import pathlib
import sys
import time
from typing import Any

from benchmarks import harness

OUTPUT = harness.RESULTS / "optimum.jsonl"
LAYERS = (3, 4, 5, 6, 7, 8, 9, 10)
MOST = 12


def main(arguments: list[str] | None = None) -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(prog="benchmarks.optimum", description=__doc__)
    parser.add_argument("--programs", type=int, default=220, help="how many")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--layers", type=int, nargs="*", default=LAYERS)
    parser.add_argument("--table", action="store_true", help="show what was measured")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    if options.table:
        print(table(options.output))
        return
    count, seed = 0, options.first
    while count < options.programs:
        found = compare(seed, options.layers[seed % len(options.layers)])
        seed += 1
        if found is not None:
            harness.record(found, options.output)
            count += 1


def compare(seed: int, layers: int) -> dict[str, Any] | None:
    """Plan one program below each limit; `None` if it has too few or many values."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))
    random_programs = importlib.import_module("random_programs")

    case = random_programs.random_case(seed, layers)
    if not 3 <= case.count <= MOST:
        return None
    limits = [case.limit(share) for share in random_programs.LIMITS]
    start = time.perf_counter()
    optima = importlib.import_module("brute_force").brute_force(
        case, limits, is_pruned=True
    )
    brute_seconds = time.perf_counter() - start
    search = case.search()
    rows = []
    start = time.perf_counter()
    for share, limit, optimum in zip(
        random_programs.LIMITS, limits, optima, strict=True
    ):
        if optimum.draft is None:
            continue
        found = random_programs.find(search, limit)
        best = optimum.draft.timeline.seconds
        rows.append(
            {
                "share": share,
                "fits": found.fits,
                "excess": found.draft.timeline.seconds / best - 1,
                "bound_excess": found.bound_seconds / best - 1,
            }
        )
    return {
        "seed": seed,
        "layers": layers,
        "values": case.count,
        "limits": rows,
        "search_seconds": time.perf_counter() - start,
        "brute_seconds": brute_seconds,
    }


def table(output: pathlib.Path) -> str:
    """Return the distance from the optimum by number of values, as Markdown."""
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    lines = [
        "| values | programs | limits | does not fit | worst | above 2 % | equal |",
        "|---|---|---|---|---|---|---|",
    ]
    for low, high in ((3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (3, 12)):
        mine = [row for row in rows if low <= row["values"] <= high]
        found = [limit for row in mine for limit in row["limits"]]
        fit = [limit["excess"] for limit in found if limit["fits"]]
        cells = [
            f"{low} to {high}",
            len(mine),
            len(found),
            len(found) - len(fit),
            f"{max(fit, default=0):.2%}",
            sum(excess > 0.02 for excess in fit),
            sum(excess < 1e-6 for excess in fit),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    over = [
        limit["bound_excess"]
        for row in rows
        for limit in row["limits"]
        if limit["bound_excess"] > 1e-6
    ]
    lines.append(
        f"\nbound above the optimum: {len(over)}, by {max(over, default=0):.2%}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
