"""Compare ways to save memory: one line of JSON for each measurement.

python -m benchmarks --backend compiled           for a GPU that need not be there
python -m benchmarks --backend device             on this machine's GPU, timed
python -m benchmarks --plans                      makes its plans before, without it
python -m benchmarks --table                      what was measured, as tables
python -m benchmarks --plots                      and as pictures

What is recorded is not measured again: stop it at any time, run it again to go on.
"""

import argparse
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

import jaxswap
from benchmarks import (
    harness,
    largest,
    link,
    papers,
    plan_files,
    planner,
    plots,
    runner,
    tables,
)
from benchmarks.case import Case
from benchmarks.methods import METHODS
from benchmarks.programs import find_program
from benchmarks.suites import DEFAULT_TARGET, SUITES, cases_of, comparison

TIMED_OUT = 3
"""Exit status where time was up before everything was measured."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"benchmarks: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    made = _Parser(
        prog="benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--backend", choices=("compiled", "device"), default="compiled")
    made.add_argument("--suite", action="append", choices=SUITES, help="repeatable")
    made.add_argument("--workload", action="append", help="only this one; repeatable")
    made.add_argument("--method", action="append", help="only this one and plain")
    made.add_argument("--target", help=f"GPU to compile for; {DEFAULT_TARGET}")
    made.add_argument("--tiny", action="store_true", help="small programs, few methods")
    made.add_argument("--minutes", type=float, help="stop before; exit status 3")
    made.add_argument(
        "--timeout", type=float, default=runner.TIMEOUT_SECONDS, help="seconds a case"
    )
    made.add_argument("--output", type=pathlib.Path, help="file with the results")
    made.add_argument(
        "--plans", action="store_true", help="make the plans that a device follows"
    )
    made.add_argument("--table", action="store_true", help="show the results")
    made.add_argument("--plots", action="store_true", help="draw the results")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, or show what is there; return the exit status."""
    parsing = parser()
    options = parsing.parse_args(arguments)
    output = options.output or default_output(options.backend, is_tiny=options.tiny)
    if options.table or options.plots:
        if not output.exists():
            parsing.error(f"there are no results in {output}.")
        return _show(options, output)
    problem = problem_of(options)
    if problem:
        parsing.error(problem)
    until = None
    if options.minutes is not None:
        until = time.monotonic() + 60 * options.minutes
    if options.plans:
        options.backend = "device"
        target = options.target or plan_files.DEFAULT_TARGET
        try:
            left = plan_files.make(_cases(options), target, until)
        except jaxswap.MissingExtraError as error:
            parsing.error(str(error))
    else:
        print(f"results: {output}", file=sys.stderr)
        left = _measure(options, output, until)
    if left:
        print(f"time is up, {left} or more to go: run it again", file=sys.stderr)
    return TIMED_OUT if left else 0


def default_output(backend: str, *, is_tiny: bool) -> pathlib.Path:
    """Where results go: tiny ones aside, those of a GPU to a file of its own."""
    if is_tiny:
        return pathlib.Path(tempfile.mkdtemp(prefix="jaxswap-")) / "tiny.jsonl"
    if backend == "compiled":
        return harness.RESULTS / "comparison.jsonl"
    name = (harness.graphics_card() or {}).get("name", "none").lower()
    slug = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    return harness.RESULTS / f"device-{slug}.jsonl"


def problem_of(options: argparse.Namespace) -> str:
    """Return what the command line asks for in vain; nothing if it is all right."""
    for suite in options.suite or ():
        if options.backend not in SUITES[suite]:
            return f"suite {suite} needs --backend {SUITES[suite][0]}."
    for method in options.method or ():
        others = ("calibrate", *link.DIRECTIONS)
        if method not in (*METHODS, *others) and not method.startswith("torch "):
            return f"the method is {method!r}; choose of {', '.join(METHODS)}."
    if options.minutes is not None and not options.minutes > 0:
        return f"--minutes is {options.minutes:g}; it must be above 0."
    if not options.timeout > 0:
        return f"--timeout is {options.timeout:g}; it must be above 0."
    if options.backend == "device":
        if options.target:
            return "--target is of --backend compiled; a device is what is there."
        if not options.tiny and harness.graphics_card() is None:
            return "there is no NVIDIA GPU; --tiny tries the backend on the processor."
    elif options.target:
        try:
            number = jax.ShapeDtypeStruct((), jnp.float32)
            jaxswap.plan(jnp.sin, number, target=options.target, compile=False)
        except ValueError as error:
            return str(error)
    try:
        is_any = _cases(options) or _plans(options)
    except ValueError as error:
        return str(error)
    return "" if is_any else "the suites have no such measurement."


def _cases(options: argparse.Namespace) -> list[Case]:
    """What is asked for; a program that is in no suite is compared by all methods."""
    where: dict[str, Any] = {"backend": options.backend, "is_tiny": options.tiny}
    where["target"] = _target(options)
    cases = list(cases_of(options.suite or tuple(SUITES), **where))
    if options.workload:
        for workload in {*options.workload} - {case.workload for case in cases}:
            find_program(workload)
            cases += comparison(workload, **where)
        cases = [case for case in cases if case.workload in options.workload]
    if options.method:
        cases = [c for c in cases if c.method in ("plain", *options.method)]
    return cases


def _target(options: argparse.Namespace) -> str:
    return "" if options.backend == "device" else options.target or DEFAULT_TARGET


def _plans(options: argparse.Namespace) -> bool:
    """Whether the planner's suite is to be run, which has a script of its own.

    It takes minutes even when tiny, so that it has to be asked for then.
    """
    if options.suite or options.tiny:
        return "planner" in (options.suite or ())
    return not (options.workload or options.method)


def _measure(
    options: argparse.Namespace, output: pathlib.Path, until: float | None
) -> int:
    """Measure what is missing; return how much is left, as far as it is known."""
    cases = _cases(options)
    left = len(runner.run(cases, output, timeout_seconds=options.timeout, until=until))
    is_whole = not (options.workload or options.method or options.tiny)
    if is_whole and "papers" in (options.suite or ("papers",)):
        left += largest.search(
            options.backend,
            _target(options),
            output,
            until=until,
            timeout_seconds=options.timeout,
        )
    if options.backend == "compiled" and _plans(options):
        where = ["--output", str(output.with_name("planner.jsonl"))]
        where += ["--target", _target(options)]
        where += ["--tiny", "--program", "mlp"] if options.tiny else []
        left += planner.main(where, until=until)
    return left


def _show(options: argparse.Namespace, output: pathlib.Path) -> int:
    rows = harness.rows_of(output)
    if options.table:
        parts = (tables.tables(rows), papers.tables(rows))
        print("\n\n".join(part for part in parts if part))
    if options.plots:
        for path in plots.plots(rows, output.parent):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
