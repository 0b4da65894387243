"""Plan <-> JSON."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxswap._base.files import write_whole
from jaxswap._gpu.fields import target_from_fields
from jaxswap._gpu.work import Work
from jaxswap._graph.graph import Action, Equation, Graph, Inside, Loop, Value
from jaxswap._graph.placement import Placement
from jaxswap._graph.signature import Signature, signature_of
from jaxswap._plans.plan import Plan
from jaxswap._schedule.instructions import Return, Swap
from jaxswap._search.measured import Compiled

FORMAT = 6


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
        return plan_from_json(Path(path).read_text(encoding="utf-8"))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a plan: {error!r}.") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def plan_to_json(plan: Plan) -> str:
    """Return a plan as JSON, its program included."""
    fields = _fields(plan)
    for name in ("graph", "plain_graph"):
        if fields[name] is not None:
            fields[name] = _graph_to_json(fields[name])
    return json.dumps({"format": FORMAT, **fields})


def plan_from_json(text: str) -> Plan:
    """Read what `plan_to_json` wrote.

    Raises:
        ValueError: If the text is no plan. Some mistakes raise `KeyError`, `TypeError`
            or `AttributeError` instead.
    """
    fields = _read(text)
    for name in ("graph", "plain_graph"):
        if fields[name] is not None:
            fields[name] = _graph_from_json(fields[name])
    plan = Plan(**fields)
    _check(plan)
    return plan


@dataclasses.dataclass(frozen=True)
class Decisions:
    """A plan without its program.

    Attributes:
        fields: The fields of the plan, without its graphs.
        loops: The actions of each loop's body, by the signature of the body.
        inside: How values in a user's `jax.checkpoint` and in branches are treated.
    """

    fields: Mapping[str, Any]
    loops: Mapping[str, tuple[Action, ...]]
    inside: Inside

    def decide_loop(self, body: Graph) -> Sequence[Action]:
        """Return the actions of a body's values. Keep all if none are known."""
        actions = self.loops.get(signature_of(body).program, ())
        is_fit = len(actions) == len(body.values)
        return actions if is_fit else [Action.KEEP] * len(body.values)

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
        signature_of(loop.graph).program: _letters(loop.actions) for loop in plan.loops
    }
    fields["inside"] = plan.graph.inside.value
    return json.dumps({"format": FORMAT, **fields})


def decisions_from_json(text: str) -> Decisions:
    """Read what `decisions_to_json` wrote. Raises the errors of `plan_from_json`."""
    fields = _read(text)
    loops, inside = fields.pop("loops"), Inside(fields.pop("inside"))
    return Decisions(fields, {key: actions_of(loops[key]) for key in loops}, inside)


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


def _read(text: str) -> dict[str, Any]:
    """Return the fields as a plan holds them, without graphs and loops."""
    fields = json.loads(text)
    if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
        raise ValueError(f"this is not a plan of format {FORMAT}.")
    fields["actions"] = actions_of(fields["actions"])
    fields["target"] = target_from_fields(fields["target"])
    signature = fields["signature"]
    fields["signature"] = Signature(tuple(signature["arguments"]), signature["program"])
    fields["swaps"] = tuple(swap_of(swap) for swap in fields["swaps"])
    if fields["compiled"] is not None:
        returns = tuple(fields["compiled"].pop("exposed_returns"))
        fields["compiled"] = Compiled(**fields["compiled"], exposed_returns=returns)
    if fields["placement"] is not None:
        fields["placement"] = _placement(fields["placement"])
    fields["staleness"] = tuple(fields["staleness"])
    return fields


def _placement(fields: dict[str, Any]) -> Placement:
    return Placement(
        axes=tuple((name, size) for name, size in fields["axes"]),
        explicit=tuple(fields["explicit"]),
        operands=tuple(
            tuple(tuple(names) for names in spec) for spec in fields["operands"]
        ),
    )


def _check(plan: Plan) -> None:
    """Refuse a plan that does not fit its own program."""
    values = range(len(plan.graph.values))
    if signature_of(plan.graph) != plan.signature:
        raise ValueError("the program is not the one that the plan was made for.")
    if len(plan.actions) != len(values):
        raise ValueError(
            f"the plan has {len(plan.actions)} actions for {len(values)} values."
        )
    for swap in plan.swaps:
        if swap.value not in values:
            raise ValueError(f"the plan swaps value {swap.value}, which is not there.")


def swap_of(fields: dict[str, Any]) -> Swap:
    """Return the swap that was written as these fields."""
    returns = tuple(Return(**back) for back in fields.pop("returns"))
    return Swap(**fields, returns=returns)


_ENDS = ("arguments", "outputs", "cotangents", "gradients", "carried", "sliced")


def _graph_to_json(graph: Graph) -> dict[str, Any]:
    """Return rows of plain fields, in the order of the dataclasses."""
    return {
        "values": [_row(value) for value in graph.values],
        "equations": [_row(eqn) for eqn in graph.equations],
        **{name: getattr(graph, name) for name in _ENDS},
        "trip_count": graph.trip_count,
        "inside": graph.inside.value,
        "loops": [
            [_graph_to_json(loop.graph), _letters(loop.actions)] for loop in graph.loops
        ],
    }


def _row(row: Any) -> list[Any]:
    def plain(x: Any) -> Any:
        if isinstance(x, Graph):
            return _graph_to_json(x)
        return str(x) if isinstance(x, np.dtype) else x

    return [plain(getattr(row, f.name)) for f in dataclasses.fields(row)]


def _letters(actions: Sequence[Action]) -> str:
    return "".join(action.value[0] for action in actions)


def actions_of(letters: str) -> tuple[Action, ...]:
    """Return the actions that were written as their first letters."""
    by_letter = {action.value[0]: action for action in Action}
    return tuple(by_letter[letter] for letter in letters)


def _graph_from_json(stored: dict[str, Any]) -> Graph:
    value_names = [f.name for f in dataclasses.fields(Value)]
    equation_names = [f.name for f in dataclasses.fields(Equation)]
    values = []
    for row in stored["values"]:
        fields = dict(zip(value_names, row, strict=True))
        fields["shape"] = tuple(fields["shape"])
        fields["dtype"] = None if fields["dtype"] is None else dtype_of(fields["dtype"])
        values.append(Value(**fields))
    equations = []
    for row in stored["equations"]:
        fields = dict(zip(equation_names, row, strict=True))
        fields["inputs"] = tuple(fields["inputs"])
        fields["outputs"] = tuple(fields["outputs"])
        fields["work"] = Work(fields["work"]) if fields["work"] else None
        if fields["body"] is not None:
            fields["body"] = _graph_from_json(fields["body"])
        equations.append(Equation(**fields))
    return Graph(
        tuple(values),
        tuple(equations),
        **{name: tuple(stored[name]) for name in _ENDS},
        trip_count=stored["trip_count"],
        inside=Inside(stored["inside"]),
        loops=tuple(
            Loop(_graph_from_json(body), actions_of(letters))
            for body, letters in stored["loops"]
        ),
    )


def dtype_of(name: str) -> np.dtype:
    """Return a dtype by name. bfloat16 and similar come from `ml_dtypes`."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
