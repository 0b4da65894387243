"""Graph -> what becomes of each value, and when copies start.

A policy is an object with a method `decide(graph) -> Decision`, or simply a function
of a `Value` that returns an `Action`.
"""

import dataclasses
import re
from collections.abc import Callable, Collection
from typing import Protocol, runtime_checkable

from jaxswap._graph.graph import Action, Graph, Value
from jaxswap._schedule.timing import Distance, Timing

SHORT_COPY_BYTES = 1 << 14
"""Copies below this are all latency: such a carry stays on the device."""


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a policy says of one traced program.

    Attributes:
        actions: One for each value of the graph, by index.
        timing: When copies start.
    """

    actions: tuple[Action, ...]
    timing: Timing


@runtime_checkable
class Policy(Protocol):
    """Anything that decides on a graph."""

    def decide(self, graph: Graph) -> Decision:
        """Return the action of each value, and when copies start."""
        ...


@dataclasses.dataclass(frozen=True)
class Default:
    """Swap results of heavy operations, recompute what is cheap, keep what is small.

    A cheap value is recomputed if everything large that it needs is there for the
    backward pass anyway, or if it needs no more than one large value. Otherwise (the
    sum of a residual connection, say) it is swapped itself. A value that lies idle
    inside the forward pass (a skip connection) is swapped too and serves both passes
    from one host copy: Imai et al. 2018, "swapping inside forward propagation".

    Small values stay on the device, but for those that the forward pass itself has
    no use for: these are put off until the backward pass asks for them.

    Of a loop, the carry is swapped in each iteration and the rest of the body is
    computed again, so that device memory does not grow with the trip count.

    Attributes:
        min_bytes: Values smaller than this are small.
        min_share: So are values smaller than this share of the largest heavy result.
        skip_distance: A value used in the forward pass more than this many heavy
            operations after it is made counts as a skip connection.
    """

    min_bytes: int = 1 << 20
    min_share: float = 1 / 32
    skip_distance: int = 6

    def decide(self, graph: Graph) -> Decision:
        """See the class."""
        if graph.is_body:
            return Decision(self._of_body(graph), Timing())
        actions = [Action.KEEP] * len(graph.values)
        roots: dict[int, frozenset[int]] = {}
        executed = graph.ancestors(graph.outputs)
        needed = self._needed_anyway(graph)
        skips = self._skips(graph)
        min_bytes = self._min_bytes(graph)
        for eqn in graph.equations:
            if eqn.is_backward:
                continue
            large = frozenset().union(*(roots.get(v, frozenset()) for v in eqn.inputs))
            is_worth_replaying = eqn.is_cheap and (len(large) <= 1 or large <= needed)
            for v in eqn.outputs:
                if graph.values[v].nbytes < min_bytes:
                    if eqn.index not in executed and eqn.is_cheap and not large:
                        actions[v] = Action.RECOMPUTE
                    continue
                if is_worth_replaying and v not in skips:
                    actions[v], roots[v] = Action.RECOMPUTE, large
                else:
                    actions[v], roots[v] = Action.OFFLOAD, frozenset({v})
        return Decision(tuple(actions), Timing(min_bytes=min_bytes))

    def _of_body(self, graph: Graph) -> tuple[Action, ...]:
        """Swap the carry, compute the rest again; keep it all if it is small."""
        values = graph.values
        producers = graph.producers()
        stacked = sum(
            values[v].nbytes
            for v in graph.residuals()
            if v in producers or v in graph.carried
        )
        if stacked * graph.trip_count < self.min_bytes:
            return (Action.KEEP,) * len(values)
        least = max(SHORT_COPY_BYTES, self.min_bytes // graph.trip_count)
        actions = [Action.RECOMPUTE] * len(values)
        for v in graph.carried:
            is_large = values[v].nbytes >= least
            actions[v] = Action.OFFLOAD if is_large else Action.KEEP
        return tuple(actions)

    def _min_bytes(self, graph: Graph) -> int:
        sizes = (
            graph.values[v].nbytes
            for eqn in graph.equations
            if eqn.is_heavy and not eqn.is_backward
            for v in eqn.outputs
        )
        return max(self.min_bytes, int(self.min_share * max(sizes, default=0)))

    def _needed_anyway(self, graph: Graph) -> set[int]:
        """Large results of dear operations that the backward pass reads directly."""
        producers = graph.producers()
        return {
            v for v in graph.residuals() if v in producers and not producers[v].is_cheap
        }

    def _skips(self, graph: Graph) -> set[int]:
        """Forward values with a forward use far behind the point of their making."""
        made: dict[int, int] = {}
        found = set()
        heavy_count = 0
        live = graph.ancestors(graph.outputs)
        for eqn in graph.equations:
            if eqn.index not in live:
                continue
            heavy_count += eqn.is_heavy
            for v in eqn.inputs:
                if heavy_count - made.get(v, heavy_count) > self.skip_distance:
                    found.add(v)
            made.update(dict.fromkeys(eqn.outputs, heavy_count))
        return found


@dataclasses.dataclass(frozen=True)
class LMS:
    """IBM's Large Model Support: tensor swapping with its published dials.

    Every tensor that some consumer reads more than `swapout_threshold` topological
    levels after it was made is swapped to host memory for that consumer. Consumers
    of the forward pass (skip connections) count like any other. Nothing is
    recomputed.

    Args:
        swapout_threshold: Level distance between producer and consumer above which a
            tensor is swapped; smaller swaps more. At least 1.
        swapin_ahead: A swap-in starts this many levels before its consumer; larger
            hides more and needs more memory. At least 1.
        swapin_groupby: Consumers within this many levels share one swap-in. At least
            0.
        sync_mode: 0: copies both ways run beside computation; 1: computation waits
            for swap-outs; 2: for swap-ins; 3: for both.
        min_bytes: Tensors smaller than this are never swapped.
        include: If given, only tensors whose producer matches one of these regular
            expressions are swapped. Matched (from the beginning) against the
            primitive's name, the scope and the `checkpoint_name`.
        exclude: Tensors whose producer matches one of these are not swapped.

    Raises:
        ValueError: If a dial is out of its range, or a pattern is malformed.

    Example:
        >>> import jaxswap
        >>> policy = jaxswap.LMS(swapout_threshold=10, swapin_ahead=3)
        >>> loss = jaxswap.offload(lambda x: (x ** 2).sum(), policy=policy)

    References:
        Le, Imai, Negishi, Kawachiya 2018, "TFLMS: Large Model Support in TensorFlow
        by Graph Rewriting", arXiv 1807.02037; the dials are those of TFLMSv2.
    """

    swapout_threshold: int = 1
    swapin_ahead: int = 1
    swapin_groupby: int = 0
    sync_mode: int = 0
    min_bytes: int = 1 << 20
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lowest = {"swapout_threshold": 1, "swapin_ahead": 1, "swapin_groupby": 0}
        for name, least in {**lowest, "min_bytes": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(
                    f"`{name}` is {value!r}; an integer of at least {least} is needed."
                )
        if self.sync_mode not in (0, 1, 2, 3):
            raise ValueError(
                f"`sync_mode` is {self.sync_mode!r}; it must be 0 (asynchronous), 1 "
                "(wait for swap-outs), 2 (wait for swap-ins) or 3 (wait for both)."
            )
        for name in ("include", "exclude"):
            object.__setattr__(self, name, _patterns(name, getattr(self, name)))

    def decide(self, graph: Graph) -> Decision:
        """See the class."""
        executed = graph.ancestors(graph.outputs)
        actions = [Action.KEEP] * len(graph.values)
        for v in graph.carried:
            if self._selects(graph.values[v]):
                actions[v] = Action.OFFLOAD
        for eqn in graph.equations:
            for v in () if eqn.is_backward else eqn.outputs:
                if eqn.index not in executed:
                    actions[v] = Action.RECOMPUTE
                elif self._selects(graph.values[v]):
                    actions[v] = Action.OFFLOAD
        timing = Timing(
            distance=Distance.LEVEL,
            swapout_threshold=self.swapout_threshold,
            swapin_ahead=self.swapin_ahead,
            swapin_groupby=self.swapin_groupby,
            sync_swapout=self.sync_mode in (1, 3),
            sync_swapin=self.sync_mode in (2, 3),
            min_bytes=self.min_bytes,
            swap_cotangents=not (self.include or self.exclude),
        )
        return Decision(tuple(actions), timing)

    def _selects(self, value: Value) -> bool:
        """Whether the filters let a value be swapped; one-dimensional ones never."""
        texts = [t for t in (value.primitive, value.scope, value.name) if t]

        def matches(patterns: Collection[str]) -> bool:
            return any(re.match(p, t) for p in patterns for t in texts)

        is_large = value.nbytes >= max(1, self.min_bytes) and len(value.shape) > 1
        is_included = not self.include or matches(self.include)
        return is_large and is_included and not matches(self.exclude)


@dataclasses.dataclass(frozen=True)
class ByValue:
    """A policy given as a function of a `Value`."""

    function: Callable[[Value], Action]

    def decide(self, graph: Graph) -> Decision:
        """Ask the function for each forward value; arguments stay where they are."""
        timing = Timing(min_bytes=0, swap_cotangents=False, is_forced=True)
        actions = [Action.KEEP] * len(graph.values)
        for v in graph.carried:
            if graph.values[v].nbytes:
                actions[v] = self._ask(graph.values[v])
        for eqn in graph.equations:
            for v in () if eqn.is_backward else eqn.outputs:
                if graph.values[v].nbytes:
                    actions[v] = self._ask(graph.values[v])
        return Decision(tuple(actions), timing)

    def _ask(self, value: Value) -> Action:
        action = self.function(value)
        if not isinstance(action, Action):
            raise TypeError(
                f"`policy` returned {action!r} for the value {value.label!r}; it must "
                "return jaxswap.KEEP, jaxswap.OFFLOAD or jaxswap.RECOMPUTE."
            )
        return action


def as_policy(
    policy: Policy | Action | Callable[[Value], Action] | None,
) -> Policy:
    """Return the policy object for what a user passes as `policy=`."""
    if policy is None:
        return Default()
    if isinstance(policy, Action):
        return ByValue(lambda _: policy)
    if isinstance(policy, type):
        raise TypeError(
            f"`policy` is the class {policy.__name__}; pass an instance of it, such as "
            f"{policy.__name__}()."
        )
    if isinstance(policy, Policy):
        return policy
    if callable(policy):
        return ByValue(policy)
    raise TypeError(
        f"`policy` is {policy!r}; it must be None, a jaxswap.Action, a policy such as "
        "jaxswap.LMS(), or a function of a jaxswap.Value that returns a jaxswap.Action."
    )


def _patterns(name: str, patterns: Collection[str] | str) -> tuple[str, ...]:
    """Check regular expressions and return them as a tuple."""
    found = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in found:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"`{name}` holds {pattern!r}, which is not a regular expression: "
                f"{error}."
            ) from error
    return found
