"""Is any gradient of many random programs wrong?

python -m benchmarks.gradients --count 20000 --processes 2   try what is missing
python -m benchmarks.gradients --table                       what was tried, what failed

Programs are drawn from numbers, a chunk of them is one measurement, and those that are
recorded are not tried again. Each program is differentiated by plain JAX and through
`jaxswap.offload` under one random mix of actions; what fails is made as small as it can
be and recorded as a line from which the program can be built again
(`tests/program_generator.py`).

Most of the time is XLA's: before JAX 0.12 `--xla_cpu_use_fusion_emitters=false` in
`XLA_FLAGS` halves it. Later XLA does not know that flag.
"""

import argparse
import collections
import concurrent.futures
import importlib
import multiprocessing
import os
import pathlib
import sys
import time
from typing import Any

import jax

from benchmarks import harness

OUTPUT = harness.RESULTS / "gradients.jsonl"
CHUNK = 100
SHRINKING = 200
"""Programs tried to make a failing one small."""


def main(arguments: list[str] | None = None) -> None:
    """Try programs, or show what was tried."""
    parser = argparse.ArgumentParser(prog="benchmarks.gradients", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="how many programs")
    parser.add_argument("--chunk", type=int, default=CHUNK, help="programs in a chunk")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", action="store_true", help="show what was tried")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    if options.table:
        print(table(options.output))
        return
    done = {(row["first"], row["count"]) for row in harness.rows_of(options.output)}
    chunks = [
        (first, options.chunk) for first in range(0, options.count, options.chunk)
    ]
    missing = [chunk for chunk in chunks if chunk not in done]
    # Compiled programs stay in a process for good: each chunk gets one of its own.
    with concurrent.futures.ProcessPoolExecutor(
        options.processes,
        multiprocessing.get_context("spawn"),
        initializer=prepare,
        max_tasks_per_child=1,
    ) as pool:
        waiting = [pool.submit(try_chunk, *chunk) for chunk in missing]
        for future in concurrent.futures.as_completed(waiting):
            harness.record(future.result(), options.output)


def prepare() -> None:
    """Set JAX up as the tests do; XLA takes longer to optimize than to run."""
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_disable_most_optimizations", True)


def try_chunk(first: int, count: int) -> dict[str, Any]:
    """Try the programs of `count` numbers from `first` on."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))
    draw = importlib.import_module("program_generator").draw
    gradients = importlib.import_module("program_gradients")

    start = time.perf_counter()
    features: collections.Counter[str] = collections.Counter()
    swapping = informative = refused = 0
    failures = []
    for seed in range(first, first + count):
        program = draw(seed)
        features.update(program.features().keys())
        outcome = gradients.attempt(program)
        swapping += outcome.swaps > 0
        informative += outcome.is_informative
        refused += outcome.is_refused
        if outcome.kind and not outcome.is_refused:
            small = gradients.shrunk(program, outcome.kind, SHRINKING)
            failure = {"kind": outcome.kind, "error": outcome.error}
            failures.append({"seed": seed, "program": repr(small), **failure})
    return {
        "first": first,
        "count": count,
        "failures": failures,
        "refused": refused,
        "swapping": swapping,
        "informative": informative,
        "seconds": round(time.perf_counter() - start, 1),
        "xla_flags": os.environ.get("XLA_FLAGS", "").strip(),
        "features": dict(sorted(features.items())),
    }


def table(output: pathlib.Path) -> str:
    """Return how many programs were tried and what failed, as Markdown."""
    rows = harness.rows_of(output)
    failures = [failure for row in rows for failure in row["failures"]]
    seconds = sum(row["seconds"] for row in rows)
    lines = [
        "| programs | failures | refused by plain JAX | with swaps "
        "| a wrong gradient would show | hours |",
        "|---|---|---|---|---|---|",
        f"| {_sum(rows, 'count'):,} | {len(failures):,} | {_sum(rows, 'refused'):,} "
        f"| {_sum(rows, 'swapping'):,} | {_sum(rows, 'informative'):,} "
        f"| {seconds / 3600:.1f} |",
    ]
    if failures:
        lines += ["", "| number | failure | program |", "|---|---|---|"]
        lines += [f"| {f['seed']} | {f['kind']} | `{f['program']}` |" for f in failures]
    features: collections.Counter[str] = collections.Counter()
    for row in rows:
        features.update(row["features"])
    lines += ["", "| in the program | programs |", "|---|---|"]
    lines += [f"| {name} | {number:,} |" for name, number in features.most_common()]
    return "\n".join(lines)


def _sum(rows: list[dict[str, Any]], field: str) -> int:
    return sum(row[field] for row in rows)


if __name__ == "__main__":
    main()
