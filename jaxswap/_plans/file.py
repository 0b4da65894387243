"""Plan <-> JSON."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxswap._base.files import write_whole
from jaxswap._base.plain import read_plain
from jaxswap._base.typed import (
    Readers,
    field_types,
    read_as,
    read_fields,
    read_named,
)
from jaxswap._graph.graph import (
    Action,
    Equation,
    Graph,
    Inside,
    Loop,
    Segment,
    Value,
)
from jaxswap._graph.pieces import Pieces
from jaxswap._graph.signature import signature_of
from jaxswap._plans.plan import Plan, loops_of
from jaxswap._schedule.instructions import Swap
from jaxswap._search.ways import keep_all
from jaxswap._slabs.slabs import Slabs

FORMAT = 11


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> Path:
    """Write a plan to a JSON file, its program included.

    Arguments, result and errors are those of `Plan.save`.
    """
    return write_whole(Path(path), plan_to_json(plan))


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan that `Plan.save` wrote.

    Args:
        path: The file.

    Returns:
        The plan. `jaxswap.offload(fn, plan=...)` refuses it if it does not fit `fn`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds no plan, or a plan of another version of jaxswap.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap, tempfile
        >>> w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
        >>> plan = jaxswap.plan(
        ...     lambda w: jnp.sum(jnp.tanh(w @ w)), w, target="h100", compile=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = plan.save(f"{folder}/plan.json")
        ...     jaxswap.load_plan(path).actions == plan.actions
        True
    """
    try:
        return _plan_of(read_plain(path))
    except ValueError as error:
        raise ValueError(
            f"{path} is not a plan: {error}. Plan again, and save the plan."
        ) from error


def plan_to_json(plan: Plan) -> str:
    """Return a plan as JSON, its program included."""
    fields = _fields(plan)
    for name in ("graph", "plain_graph"):
        if fields[name] is not None:
            fields[name] = _graph_to_json(fields[name])
    return json.dumps({"format": FORMAT, **fields})


def _plan_of(content: Any) -> Plan:
    """Read what `plan_to_json` wrote. Raises ValueError: If it is no plan."""
    plan = read_fields(Plan, _formatted(content), "", _READERS)
    _check(plan)
    return plan


@dataclasses.dataclass(frozen=True)
class Decisions:
    """A plan without its program.

    Attributes:
        fields: The fields of the plan, without its graphs.
        loops: How the iterations of each loop run, by the signature of its body.
        inside: How values in a user's `jax.checkpoint` and in branches are treated.
        slabs: How the finest values are cut into slabs. `None` if they are not.
        pieces: The values that can be stored in pieces.
    """

    fields: Mapping[str, Any]
    loops: Mapping[str, tuple[Segment, ...]]
    inside: Inside
    slabs: Slabs | None
    pieces: tuple[Pieces, ...]

    def decide_loop(self, body: Graph) -> tuple[Segment, ...]:
        """Return how a loop's iterations run. Keep all if that is not known."""
        segments = self.loops.get(signature_of(body).program, ())
        if is_complete(segments, body):
            return segments
        return keep_all(body)

    def plan(self, graph: Graph, plain_graph: Graph | None) -> Plan:
        """Return the plan of a program that was traced again.

        Raises:
            ValueError: If it is a different program.
        """
        plan = Plan(**self.fields, graph=graph, plain_graph=plain_graph)
        _check(plan)
        return plan


def decisions_to_json(plan: Plan) -> str:
    """Return a plan as JSON without its program. This is much shorter."""
    fields = _fields(plan)
    del fields["graph"], fields["plain_graph"]
    fields["loops"] = {
        signature_of(loop.graph).program: [_row(one) for one in loop.segments]
        for loop in plan.loops
    }
    fields["inside"] = plan.graph.inside.value
    fields["slabs"] = _plain(plan.graph.slabs)
    fields["pieces"] = [_row(one) for one in plan.graph.pieces]
    return json.dumps({"format": FORMAT, **fields})


def decisions_of(content: Any) -> Decisions:
    """Read what `decisions_to_json` wrote. Raises ValueError: If it is no plan."""
    content = _formatted(content)
    loops = read_as(
        Mapping[str, tuple[Segment, ...]], content.pop("loops", None), "loops", _READERS
    )
    inside = read_as(Inside, content.pop("inside", None), "inside")
    slabs = read_as(Slabs | None, content.pop("slabs", None), "slabs")
    pieces = read_as(
        tuple[Pieces, ...], content.pop("pieces", None), "pieces", _READERS
    )
    graphs = ("graph", "plain_graph")
    kinds = {n: kind for n, kind in field_types(Plan).items() if n not in graphs}
    fields = read_named(kinds, content, "", _READERS)
    return Decisions(fields, loops, inside, slabs, pieces)


def _fields(plan: Plan) -> dict[str, Any]:
    """Return the fields of a plan as JSON holds them, without the graphs."""
    fields: dict[str, Any] = {
        field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)
    }
    fields["actions"] = _letters(plan.actions)
    for name in ("target", "signature", "compiled", "placement"):
        if fields[name] is not None:
            fields[name] = dataclasses.asdict(fields[name])
    fields["swaps"] = [dataclasses.asdict(swap) for swap in plan.swaps]
    return fields


def _formatted(content: Any) -> dict[str, Any]:
    """Return the fields of a file of this version's format."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"this is not a plan of format {FORMAT}")
    return {name: value for name, value in content.items() if name != "format"}


def _check(plan: Plan) -> None:
    """Refuse a plan that does not fit its own program."""
    values = range(len(plan.graph.values))
    for graph in (plan.graph, plan.plain_graph):
        if graph is not None:
            check_indices(graph)
    if signature_of(plan.graph) != plan.signature:
        raise ValueError("the program is not the one that the plan was made for")
    if len(plan.actions) != len(values):
        raise ValueError(
            f"the plan has {len(plan.actions)} actions for {len(values)} values"
        )
    for swap in plan.swaps:
        if swap.value not in values:
            raise ValueError(f"the plan swaps value {swap.value}, which is not there")
    after, least_bytes = plan.staleness
    if after < 1 or least_bytes < 0:
        raise ValueError(
            f"`staleness` is {list(plan.staleness)}; it needs 1 or more operations, "
            "and bytes"
        )
    if plan.hold_for < 0:
        raise ValueError(
            f"`hold_for` is {plan.hold_for}; it needs 0 or more operations"
        )
    if plan.in_place_bytes < 0:
        raise ValueError(f"`in_place_bytes` is {plan.in_place_bytes}; it needs bytes")
    _check_times(plan)


def _check_times(plan: Plan) -> None:
    """Refuse copies at a time when the program does not run."""
    try:
        entries = range(len(plan.draft.entries))
    except Exception as error:  # Whatever else was changed in the file.
        raise ValueError(f"it cannot be carried out ({error!r})") from error
    for place, swap in enumerate(plan.swaps):
        returns = [(back.gate, back.use, back.done_at) for back in swap.returns]
        times = [swap.made, swap.free_at, *(time for back in returns for time in back)]
        odd = next((t for t in times if t is not None and t not in entries), None)
        if odd is not None or not returns:
            what = (
                f"has the entry {odd}, which is not there" if returns else "never ends"
            )
            raise ValueError(f"`swaps[{place}]` {what}")


def check_indices(graph: Graph) -> None:
    """Refuse a program whose rows do not name one another."""
    known = range(len(graph.values))
    for what, rows in (("value", graph.values), ("equation", graph.equations)):
        for place, row in enumerate(rows):
            if row.index != place:
                raise ValueError(f"{what} {place} of the program has index {row.index}")
    used = [v for eqn in graph.equations for v in (*eqn.inputs, *eqn.outputs)]
    used += [v for name in _ENDS for v in getattr(graph, name)]
    used += [v for eqn in graph.equations for v in eqn.overwritten]
    used += [v for v in graph.handed_on if v != -1]
    used += [one.value for one in graph.pieces]
    for sweep in graph.slab_facts.sweeps if graph.slab_facts else ():
        if len(sweep.names) != len(sweep.outputs):
            raise ValueError("a sweep of the program does not name what it makes")
        used += [*sweep.outputs, *(read.value for read in sweep.reads)]
    lost = next((v for v in used if v not in known), None)
    if lost is not None:
        raise ValueError(f"the program uses value {lost}, which is not there")
    for loop in loops_of(graph.loops):
        check_indices(loop.graph)
        if not is_complete(loop.segments, loop.graph):
            raise ValueError("the iterations of a loop are not those of its segments")
    for body in _bodies(graph):
        check_indices(body)


def is_complete(segments: Sequence[Segment], body: Graph) -> bool:
    """Whether segments cover all iterations of a loop, and all values of its body."""
    return sum(segment.count for segment in segments) == body.trip_count and all(
        len(segment.actions) == len(body.values)
        and segment.block >= 1
        and segment.count >= 1
        and segment.count % segment.block == 0
        for segment in segments
    )


def _bodies(graph: Graph) -> list[Graph]:
    return [eqn.body for eqn in graph.equations if eqn.body is not None]


def swap_of(fields: Any) -> Swap:
    """Return the swap that was written as these fields."""
    return read_fields(Swap, fields, "swap")


_ENDS = ("arguments", "outputs", "cotangents", "gradients", "carried", "sliced")


def _graph_to_json(graph: Graph) -> dict[str, Any]:
    """Return rows of plain fields, in the order of the dataclasses."""
    return {
        "values": [_row(value) for value in graph.values],
        "equations": [_row(eqn) for eqn in graph.equations],
        **{name: getattr(graph, name) for name in _ENDS},
        "handed_on": graph.handed_on,
        "trip_count": graph.trip_count,
        "inside": graph.inside.value,
        "slabs": _plain(graph.slabs),
        "slab_facts": _plain(graph.slab_facts),
        "compress": graph.compress,
        "pieces": [_row(one) for one in graph.pieces],
        "loops": [_row(loop) for loop in graph.loops],
    }


def _plain(fields: Any) -> dict[str, Any] | None:
    return None if fields is None else dataclasses.asdict(fields)


def _row(row: Any) -> list[Any]:
    def plain(x: Any) -> Any:
        if isinstance(x, Graph):
            return _graph_to_json(x)
        if isinstance(x, tuple):
            return _letters(x) if _are_actions(x) else [plain(one) for one in x]
        if isinstance(x, Segment | Loop):
            return _row(x)
        return str(x) if isinstance(x, np.dtype) else x

    return [plain(getattr(row, f.name)) for f in dataclasses.fields(row)]


def _are_actions(row: tuple[Any, ...]) -> bool:
    return bool(row) and all(isinstance(one, Action) for one in row)


def _letters(actions: Sequence[Action]) -> str:
    return "".join(action.value[0] for action in actions)


def actions_of(letters: Any, where: str = "actions") -> tuple[Action, ...]:
    """Return the actions that were written as their first letters."""
    by_letter = {action.value[0]: action for action in Action}
    if not isinstance(letters, str) or not set(letters) <= by_letter.keys():
        known = " ".join(by_letter)
        raise ValueError(f"`{where}` holds something else than the letters {known}")
    return tuple(by_letter[letter] for letter in letters)


def dtype_of(name: Any, where: str = "dtype") -> np.dtype:
    """Return a dtype by name. bfloat16 and similar come from `ml_dtypes`."""
    import ml_dtypes

    if isinstance(name, str):
        with contextlib.suppress(TypeError, ValueError):
            return np.dtype(getattr(ml_dtypes, name, name))
    raise ValueError(f"`{where}` is {name!r}; it needs the name of a dtype")


def _read_row(kind: type) -> Callable[[Any, str], Any]:
    """Return how rows of plain fields are read, in the order of the dataclass."""

    def read(row: Any, where: str) -> Any:
        names = list(field_types(kind))
        if not isinstance(row, list) or len(row) != len(names):
            raise ValueError(f"`{where}` is no list of {len(names)} fields")
        return read_fields(kind, dict(zip(names, row, strict=True)), where, _READERS)

    return read


_READERS: Readers = {
    np.dtype: dtype_of,
    tuple[Action, ...]: actions_of,
    **{kind: _read_row(kind) for kind in (Value, Equation, Segment, Loop, Pieces)},
}
