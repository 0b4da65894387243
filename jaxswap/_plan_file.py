"""Plan <-> JSON."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxswap._graph import Action, Equation, Graph, Value
from jaxswap._lifetimes import Return, Swap
from jaxswap._plan import Compiled, Plan
from jaxswap._rates import Rates
from jaxswap._signature import Signature, signature_of
from jaxswap._target import Target

FORMAT = 1


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> Path:
    """Write a plan to a JSON file, its program included.

    The file is written beside its place and moved there, so that an interruption
    leaves the old one.

    Args:
        plan: the plan.
        path: where to; the folder must exist.

    Returns:
        The path.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    return write_atomically(Path(path), plan_to_json(plan))


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan that `Plan.save` wrote.

    Args:
        path: the file.

    Returns:
        The plan. `jaxswap.offload(fn, plan=...)` refuses it where it does not fit.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no plan, or one of another version of jaxswap.

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
        return plan_from_json(Path(path).read_text())
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a plan: {error!r}.") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_atomically(path: Path, text: str) -> Path:
    """Write a file so that it is either the old one or the whole new one."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path} to.")
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(text)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def plan_to_json(plan: Plan, *, with_graph: bool = True) -> str:
    """Return a plan as JSON; without its graph it can only be read with it."""
    fields: dict[str, Any] = {
        field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)
    }
    graph = fields.pop("graph")
    fields["actions"] = "".join(action.value[0] for action in plan.actions)
    for name in ("target", "signature", "compiled"):
        if fields[name] is not None:
            fields[name] = dataclasses.asdict(fields[name])
    fields["swaps"] = [dataclasses.asdict(swap) for swap in plan.swaps]
    if with_graph:
        fields["graph"] = _graph_to_json(graph)
    return json.dumps({"format": FORMAT, **fields})


def plan_from_json(text: str, graph: Graph | None = None) -> Plan:
    """Read what `plan_to_json` wrote."""
    fields = json.loads(text)
    if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
        raise ValueError(f"this is not a plan of format {FORMAT}.")
    stored = fields.pop("graph", None)
    by_letter = {action.value[0]: action for action in Action}
    fields["actions"] = tuple(by_letter[letter] for letter in fields["actions"])
    fields["target"] = _target(fields["target"])
    signature = fields["signature"]
    fields["signature"] = Signature(tuple(signature["arguments"]), signature["program"])
    fields["swaps"] = tuple(_swap(swap) for swap in fields["swaps"])
    if fields["compiled"] is not None:
        fields["compiled"] = Compiled(**fields["compiled"])
    if fields["staleness"] is not None:
        fields["staleness"] = tuple(fields["staleness"])
    if graph is None:
        graph = _graph_from_json(stored)
    plan = Plan(graph=graph, **fields)
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Refuse a plan that is not one of its program."""
    values = range(len(plan.graph.values))
    if signature_of(plan.graph) != plan.signature:
        raise ValueError("the program is not the one that the plan was made for.")
    if len(plan.actions) != len(values):
        raise ValueError(f"{len(plan.actions)} actions for {len(values)} values.")
    for swap in plan.swaps:
        if swap.value not in values:
            raise ValueError(f"a swap of value {swap.value}, which does not exist.")


def _swap(fields: dict[str, Any]) -> Swap:
    returns = tuple(Return(**back) for back in fields.pop("returns"))
    return Swap(**fields, returns=returns)


def _target(fields: dict[str, Any]) -> Target:
    rates = fields.pop("rates")
    capability = tuple(fields.pop("compute_capability"))
    return Target(
        **fields,
        compute_capability=capability,
        rates=None if rates is None else Rates(**rates),
    )


def _graph_to_json(graph: Graph) -> dict[str, Any]:
    """Rows of plain fields, in the order of the dataclasses."""
    return {
        "values": [
            [str(x) if f == "dtype" and x is not None else x for f, x in _items(value)]
            for value in graph.values
        ],
        "equations": [[x for _, x in _items(eqn)] for eqn in graph.equations],
        "arguments": graph.arguments,
        "outputs": graph.outputs,
        "cotangents": graph.cotangents,
        "gradients": graph.gradients,
    }


def _items(row: Any) -> list[tuple[str, Any]]:
    return [(f.name, getattr(row, f.name)) for f in dataclasses.fields(row)]


def _graph_from_json(stored: dict[str, Any]) -> Graph:
    value_names = [f.name for f in dataclasses.fields(Value)]
    equation_names = [f.name for f in dataclasses.fields(Equation)]
    values = []
    for row in stored["values"]:
        fields = dict(zip(value_names, row, strict=True))
        fields["shape"] = tuple(fields["shape"])
        fields["dtype"] = None if fields["dtype"] is None else _dtype(fields["dtype"])
        values.append(Value(**fields))
    equations = []
    for row in stored["equations"]:
        fields = dict(zip(equation_names, row, strict=True))
        fields["inputs"] = tuple(fields["inputs"])
        fields["outputs"] = tuple(fields["outputs"])
        equations.append(Equation(**fields))
    ends = ("arguments", "outputs", "cotangents", "gradients")
    return Graph(
        tuple(values), tuple(equations), **{name: tuple(stored[name]) for name in ends}
    )


def _dtype(name: str) -> np.dtype:
    """A dtype by name; bfloat16 and its kind come with `ml_dtypes`, which JAX needs."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
