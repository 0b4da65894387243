"""The policy of `jaxswap.offload` where there is no GPU to plan for."""

import dataclasses

from jaxswap._graph.graph import Action, Graph
from jaxswap._graph.narrow import narrow_values
from jaxswap._schedule.decision import Decision
from jaxswap._schedule.timing import Timing

SHORT_COPY_BYTES = 1 << 14
"""The copy of a smaller carry is nothing but latency, so it stays on the device."""


@dataclasses.dataclass(frozen=True)
class SwapHeavy:
    """Swap results of heavy operations, recompute what is cheap, keep what is small.

    A cheap value is recomputed if the backward pass has all large inputs of it anyway,
    or if it needs at most one large value. Otherwise (the sum of a residual connection,
    for instance) it is swapped itself. A value that lies idle inside the forward pass
    (a skip connection) is swapped too. Its one host copy serves both passes: Imai et
    al. 2018, "swapping inside forward propagation". Of a value that the backward pass
    needs only in a narrow form (8-bit numbers, masks, indices) that form is swapped.

    Small values stay on the device. An exception are small values that only the
    backward pass reads: they are computed when it needs them.

    It knows neither the device's memory nor its speed: it swaps whether or not that is
    needed, and more than the link may carry in the time of a step. It is what
    `jaxswap.offload` does without a GPU, a target and a budget.

    In a loop, the carry is swapped in each iteration and the rest of the body is
    recomputed. So device memory does not grow with the trip count.

    Attributes:
        min_bytes: Values smaller than this are small.
        min_share: Values smaller than this share of the largest heavy result are small,
            too.
        skip_distance: A value is a skip connection if the forward pass uses it more
            than this many heavy operations after it was made.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> loss = lambda w: jnp.sum(jnp.tanh(jnp.tanh(w @ w) @ w))
        >>> policy = jaxswap.policies.SwapHeavy(min_bytes=0)
        >>> grad = jax.grad(jaxswap.offload(loss, policy=policy))
        >>> bool(jnp.array_equal(grad(jnp.eye(4)), jax.grad(loss)(jnp.eye(4))))
        True
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
        narrow = narrow_values(graph, lambda eqn: eqn.is_cheap)
        skips = self._skips(graph)
        min_bytes = self._min_bytes(graph)
        for eqn in graph.equations:
            if eqn.is_backward:
                continue
            large = frozenset().union(*(roots.get(v, frozenset()) for v in eqn.inputs))
            is_worth_recomputing = eqn.is_cheap and (len(large) <= 1 or large <= needed)
            for v in eqn.outputs:
                if graph.values[v].nbytes < min_bytes:
                    if eqn.index not in executed and eqn.is_cheap and not large:
                        actions[v] = Action.RECOMPUTE
                    continue
                if is_worth_recomputing and v not in skips and v not in narrow:
                    actions[v], roots[v] = Action.RECOMPUTE, large
                else:
                    actions[v], roots[v] = Action.OFFLOAD, frozenset({v})
        return Decision(tuple(actions), Timing(min_bytes=min_bytes))

    def _of_body(self, graph: Graph) -> tuple[Action, ...]:
        """Swap the carry and recompute the rest. Keep all if the carry is small."""
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
        narrow = narrow_values(graph, lambda eqn: eqn.is_pure)
        for v in (*graph.carried, *narrow):
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
        """Return large, costly results that the backward pass reads directly."""
        producers = graph.producers()
        return {
            v for v in graph.residuals() if v in producers and not producers[v].is_cheap
        }

    def _skips(self, graph: Graph) -> set[int]:
        """Return forward values that the forward pass uses long after they are made."""
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
