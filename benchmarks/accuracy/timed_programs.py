"""The programs that were timed on a GPU, as graphs and decisions, read without JAX.

A timing says something about the cost model only together with the program that was
timed, and programs change with the code that they are traced from. So they are kept.
"""

import dataclasses
import functools
import json
import lzma
from pathlib import Path
from typing import Any

from jaxswap._gpu.work import Work
from jaxswap._graph.graph import Action, Equation, Graph, Value
from jaxswap._plans.file import actions_of, dtype_of, swap_of
from jaxswap._schedule.instructions import Swap

FILE = Path(__file__).parents[1] / "results" / "timed-programs-nvidia-h200.json.xz"

_ENDS = ("arguments", "outputs", "cotangents", "gradients")


@dataclasses.dataclass(frozen=True)
class TimedProgram:
    """A program of one workload and method.

    Attributes:
        workload: As `benchmarks.programs.find_program` takes it.
        method: A name from `benchmarks.methods`.
        budget: What it was planned for, or "".
        graph: The program, its three-dimensional features channels first.
        actions: What becomes of each value.
        swaps: When each swapped value leaves and returns.
        staleness: As a plan has it.
        compiled: By layout ("channels first", "channels last"): bytes of the program
            that XLA compiled for an H200 that was not there.
    """

    workload: str
    method: str
    budget: str
    graph: Graph
    actions: tuple[Action, ...]
    swaps: tuple[Swap, ...]
    staleness: tuple[int, int]
    compiled: dict[str, dict[str, int]]


@functools.cache
def timed_programs() -> dict[tuple[str, str, str], TimedProgram]:
    """Read all of them, by workload, method and budget."""
    stored = json.loads(lzma.decompress(FILE.read_bytes()))
    graphs = {name: _graph(fields) for name, fields in stored["graphs"].items()}
    found = (
        TimedProgram(
            workload=row["workload"],
            method=row["method"],
            budget=row["budget"],
            graph=graphs[row["graph"]],
            actions=actions_of(row["actions"]),
            swaps=tuple(map(swap_of, row["swaps"])),
            staleness=tuple(row["staleness"]),
            compiled=row["compiled"],
        )
        for row in stored["rows"]
    )
    return {(one.workload, one.method, one.budget): one for one in found}


def channels_last(graph: Graph) -> Graph:
    """Return the same program with its features channels last: no workspace."""

    def without(eqn: Equation) -> Equation:
        body = None if eqn.body is None else channels_last(eqn.body)
        return dataclasses.replace(eqn, workspace_bytes=0, body=body)

    return dataclasses.replace(graph, equations=tuple(map(without, graph.equations)))


def _graph(stored: dict[str, Any]) -> Graph:
    ends: dict[str, Any] = {name: tuple(stored[name]) for name in _ENDS}
    return Graph(
        values=tuple(map(_value, _rows(stored["values"]))),
        equations=tuple(map(_equation, _rows(stored["equations"]))),
        **ends,
    )


def _rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(table["fields"], row, strict=True)) for row in table["rows"]]


def _value(fields: dict[str, Any]) -> Value:
    dtype = fields.pop("dtype")
    return Value(**_tuples(fields), dtype=None if dtype is None else dtype_of(dtype))


def _equation(fields: dict[str, Any]) -> Equation:
    work, body = fields.pop("work", None), fields.pop("body", None)
    return Equation(
        **_tuples(fields),
        work=None if work is None else Work(work),
        body=None if body is None else _graph(body),
    )


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {n: tuple(x) if isinstance(x, list) else x for n, x in fields.items()}
