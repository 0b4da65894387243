"""Plans that were made before, so that a GPU need not wait for them.

`make bench-plans` makes them on any machine, for a GPU that need not be there. They lie
in `plans/`, which is not committed: a plan fits one version of a program, and is made
again when jaxswap or the program changed. Delete the folder then.
"""

import contextlib
import dataclasses
import pathlib
import re
import sys
import time
from collections.abc import Iterable
from typing import Any

import jaxswap
from benchmarks import compiled
from benchmarks.case import Case, budget_bytes
from benchmarks.methods import METHODS, loss_of

PLANS = pathlib.Path(__file__).parent / "plans"
DEFAULT_TARGET = "h200"


def path_of(case: Case) -> pathlib.Path:
    """Where the plan of a case lies."""
    words = [*["tiny"] * case.is_tiny, case.workload, case.method, case.budget]
    name = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
    return PLANS / f"{name}.json"


def find(case: Case) -> jaxswap.Plan | None:
    """Return the plan of a case; `None` if this version of jaxswap made none."""
    with contextlib.suppress(
        FileNotFoundError, ValueError
    ):  # ValueError: another format
        return jaxswap.load_plan(path_of(case))
    return None


def missing(cases: Iterable[Case]) -> list[Case]:
    """Return the cases that are planned for a budget and have no plan yet."""
    found: dict[pathlib.Path, Case] = {}
    for case in cases:
        is_planned = case.backend == "device" and METHODS[case.method].needs_budget
        if is_planned and find(case) is None:
            found.setdefault(path_of(case), case)
    return list(found.values())


def make(cases: Iterable[Case], target: str, until: float | None = None) -> int:
    """Make the plans that are missing.

    Args:
        cases: What is to be timed; those that need no plan are passed over.
        target: The GPU that the plans are made for.
        until: Time of `time.monotonic` after which none is begun.

    Returns:
        How many are left.
    """
    waiting = missing(cases)
    plain: dict[str, dict[str, Any]] = {}
    for number, case in enumerate(waiting):
        if until is not None and time.monotonic() > until:
            return len(waiting) - number
        if case.budget.endswith("%") and case.workload not in plain:
            there = {"backend": "compiled", "target": target, "card": ""}
            of_plain = dataclasses.replace(case.plain(), **there)
            plain[case.workload] = compiled.measure(of_plain)
        start = time.monotonic()
        said = _make(case, target, plain.get(case.workload))
        took = f"{time.monotonic() - start:.0f} s"
        print(f"{path_of(case).name}: {said}, {took}", file=sys.stderr, flush=True)
    return 0


def _make(case: Case, target: str, plain: dict[str, Any] | None) -> str:
    """Make one plan; return what came of it."""
    loss, args, method = loss_of(case.method, case.workload, is_tiny=case.is_tiny)
    try:
        plan = jaxswap.plan(
            loss,
            *args,
            budget=budget_bytes(case.budget, plain),
            policy=method.policy,
            target=target,
            most_compiles=compiled.MOST_COMPILES,
            progress=False,
        )
    except jaxswap.BudgetError as failure:
        return f"does not fit; the least found is {failure.smallest_bytes} bytes"
    PLANS.mkdir(exist_ok=True)
    plan.save(path_of(case))
    return f"{plan.device_bytes} bytes, {plan.seconds * 1e3:.1f} ms simulated"
