"""Graph and rates -> the C structure `Program`: what does not depend on actions."""

import ctypes
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from jaxswap._graph.graph import Action, Equation
from jaxswap._schedule.timing import Distance, Timing
from jaxswap._simulate.draft import Arranger

CODES = {Action.KEEP: 0, Action.OFFLOAD: 1, Action.RECOMPUTE: 2}
"""The numbers of the actions in vectors."""
ACTIONS = tuple(CODES)

# As in core.h.
_KINDS = ("is_backward", "is_heavy", "is_cheap", "is_pure")
_LONE_VIEW, _DEFERRED, _FUSIBLE, _ALIAS = (1 << bit for bit in range(4, 8))
_REDUCTION, _IN_PARTS, _CUT, _JOIN = (1 << bit for bit in range(8, 12))

_INT, _BYTES = ctypes.c_int, ctypes.c_int64
_INTS, _SIZES = ctypes.POINTER(_INT), ctypes.POINTER(_BYTES)
_FLOAT = ctypes.c_double
_FLOATS = ctypes.POINTER(_FLOAT)


class Staleness(ctypes.Structure):
    """The C structure: when a recomputed value is recomputed once more."""

    _fields_ = [("stale_after", _INT), ("hold_for", _INT), ("large_bytes", _BYTES)]


class PolicyTiming(ctypes.Structure):
    """The C structure `Timing`: the distances of a policy."""

    _names = (
        *("swapout_threshold", "swapin_ahead", "swapin_groupby", "sync_swapout"),
        *("sync_swapin", "copies_in_flight", "is_forced"),
    )
    _fields_ = [("is_level", _INT), *((name, _INT) for name in _names)]

    @classmethod
    def of(cls, timing: Timing) -> "PolicyTiming":
        """Return the distances of a policy."""
        is_level = timing.distance is Distance.LEVEL
        return cls(is_level, *(getattr(timing, name) for name in cls._names))


class Program(ctypes.Structure):
    """The C structure. Its vectors live as long as it does."""

    _fields_ = [
        *((name, _INT) for name in ("equations", "values")),
        *((name, _INT) for name in ("has_hosted", "expects_gaps")),
        *(
            (name, _INTS)
            for name in ("kind", "in_start", "inputs", "out_start", "outputs")
        ),
        *((name, _INTS) for name in ("over_start", "overwritten")),
        ("nbytes", _SIZES),
        ("copied_bytes", _SIZES),
        ("host_nbytes", _SIZES),
        *((name, _INTS) for name in ("trait", "producer", "remaker")),
        *((name, _INTS) for name in ("base", "shape", "type")),
        ("residuals", _INTS),
        *((name, _INTS) for name in ("gradients", "given", "cotangents", "behind")),
        *((f"{name}_count", _INT) for name in ("residual", "gradient", "given")),
        *((f"{name}_count", _INT) for name in ("cotangent", "behind")),
        *((f"{name}_seconds", _FLOATS) for name in ("fixed", "base")),
        *((name, _FLOATS) for name in ("seconds_alone", "flops")),
        *((f"{name}_bytes", _SIZES) for name in ("made", "inside")),
        *((name, _FLOATS) for name in ("moved_bytes", "bytes_per_second")),
        *((f"{name}_seconds", _FLOATS) for name in ("out", "back")),
        *((name, _FLOAT) for name in ("launch_seconds", "out_share", "back_share")),
        *((f"{name}_bytes", _BYTES) for name in ("caller", "loop_host", "in_place")),
    ]

    def __init__(self, **members: Any) -> None:
        self.vectors: list[np.ndarray] = []
        super().__init__(**{k: self._member(v) for k, v in members.items()})

    def _member(self, given: Any) -> Any:
        """Return a number as it is, and a pointer to a vector."""
        if not isinstance(given, np.ndarray):
            return given
        self.vectors.append(given)
        kinds = {"int32": _INT, "int64": _BYTES, "float64": _FLOAT}
        return given.ctypes.data_as(ctypes.POINTER(kinds[given.dtype.name]))


def program_of(arranger: Arranger, *, expects_gaps: bool) -> Program:
    """Describe the program of an arranger, and what its operations take.

    Args:
        arranger: The arranger.
        expects_gaps: Whether the gaps between buffers are wanted of each draft.
    """
    structure, costs = _structure(arranger), _costs(arranger)
    return Program(**structure, **costs, expects_gaps=expects_gaps)


def _structure(arranger: Arranger) -> dict[str, Any]:
    graph, fusion = arranger.graph, arranger.simulator.fusion
    in_start, inputs = _lists([eqn.inputs for eqn in graph.equations])
    out_start, outputs = _lists([eqn.outputs for eqn in graph.equations])
    over_start, overwritten = _lists([eqn.overwritten for eqn in graph.equations])
    kind = [
        _kind(eqn)
        | _FUSIBLE * fusion.is_fusible[eqn.index]
        | _ALIAS * fusion.is_alias[eqn.index]
        for eqn in graph.equations
    ]
    trait = np.zeros(len(graph.values), np.int32)
    kinds = (graph.arguments, graph.cotangents, graph.outputs, graph.gradients)
    for bit, values in enumerate((*kinds, fusion.materialized)):
        trait[list(values)] |= 1 << bit
    producers = {v: eqn.index for v, eqn in graph.producers().items()}
    remakers = {v: eqn.index for v, eqn in graph.remakers().items()}
    wanted = graph.ancestors(graph.gradients)
    behind = [
        eqn.index
        for eqn in graph.equations
        if eqn.is_backward and (eqn.index in wanted or not eqn.is_pure)
    ]
    lists = {"residuals": graph.residuals(), "gradients": graph.gradients}
    lists |= {"given": (*graph.arguments, *graph.cotangents)}
    lists |= {"cotangents": graph.cotangents, "behind": behind}
    counts = {f"{name.removesuffix('s')}_count": len(v) for name, v in lists.items()}
    return {
        "equations": len(graph.equations),
        "values": len(graph.values),
        "has_hosted": any(arranger.simulator.host_nbytes),
        "kind": _ints(kind),
        "in_start": in_start,
        "inputs": inputs,
        "out_start": out_start,
        "outputs": outputs,
        "over_start": over_start,
        "overwritten": overwritten,
        "nbytes": np.array([v.nbytes for v in graph.values], np.int64),
        "copied_bytes": np.array(arranger.simulator.copied_bytes, np.int64),
        "host_nbytes": np.array(arranger.simulator.host_nbytes, np.int64),
        "trait": trait,
        "producer": _by_value(producers, trait),
        "remaker": _by_value(remakers, trait),
        "base": _by_value(fusion.base, trait),
        "shape": _numbered(value.shape for value in graph.values),
        "type": _numbered((value.shape, value.dtype) for value in graph.values),
        **{name: _ints(values) for name, values in lists.items()},
        **counts,
    }


def _costs(arranger: Arranger) -> dict[str, Any]:
    simulator = arranger.simulator
    equations, rates = simulator.graph.equations, simulator.rates
    alone = arranger.seconds_alone
    values = range(len(simulator.graph.values))
    fixed = [simulator.fixed_seconds(eqn) for eqn in equations]
    by_kind = (rates.memory_bytes_per_second, rates.reduction_bytes_per_second)
    seconds = {
        "fixed_seconds": [-1.0 if s is None else s for s in fixed],
        "base_seconds": simulator.base_seconds,
        "seconds_alone": [alone.get(eqn.index, 0.0) for eqn in equations],
        "flops": [eqn.flops for eqn in equations],
        "moved_bytes": [eqn.inner_bytes for eqn in equations],
        "bytes_per_second": [by_kind[eqn.is_reduction] for eqn in equations],
        "out_seconds": [simulator.copy_seconds(v, is_inward=False) for v in values],
        "back_seconds": [simulator.copy_seconds(v, is_inward=True) for v in values],
    }
    made = [sum(simulator.nbytes[v] for v in eqn.outputs) for eqn in equations]
    inside = [simulator.inner_bytes(eqn.index) for eqn in equations]
    return {
        **{name: np.array(numbers, np.float64) for name, numbers in seconds.items()},
        "made_bytes": np.array(made, np.int64),
        "inside_bytes": np.array(inside, np.int64),
        "launch_seconds": rates.launch_seconds,
        "out_share": simulator.both_ways_share(is_inward=False),
        "back_share": simulator.both_ways_share(is_inward=True),
        "caller_bytes": simulator.caller_bytes,
        "loop_host_bytes": simulator.loop_host_bytes,
        "in_place_bytes": arranger.in_place_bytes,
    }


def _kind(eqn: Equation) -> int:
    """Return what an equation is, as a sum of bits."""
    bits = sum(getattr(eqn, name) << bit for bit, name in enumerate(_KINDS))
    is_lone_view = eqn.is_view and len(eqn.outputs) == 1
    bits |= _LONE_VIEW * is_lone_view | _DEFERRED * eqn.is_deferred
    bits |= _REDUCTION * eqn.is_reduction | _IN_PARTS * eqn.is_in_parts
    return bits | _CUT * eqn.is_cut | _JOIN * eqn.is_join


def _ints(numbers: Any) -> np.ndarray:
    return np.array(list(numbers), np.int32)


def _numbered(kinds: Iterable[Hashable]) -> np.ndarray:
    """Return a number for each of some things, the same for equal ones."""
    known: dict[Hashable, int] = {}
    return _ints(known.setdefault(kind, len(known)) for kind in kinds)


def _by_value(found: Any, like: np.ndarray) -> np.ndarray:
    """Return the number of each value, or -1."""
    numbers = np.full(len(like), -1, np.int32)
    for v, number in found.items():
        numbers[v] = number
    return numbers


def _lists(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return where each list starts in a vector of all, and this vector."""
    starts = np.cumsum([0, *(len(one) for one in lists)])
    return _ints(starts), _ints(v for one in lists for v in one)
