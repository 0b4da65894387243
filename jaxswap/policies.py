"""Published systems as policies, which can be planned and compared like any other.

Each policy gives every forward value the action that its system would choose. The
schedule, the simulator and the compiler are jaxswap's own, so only choices are
compared.

Example:
    >>> import jax, jax.numpy as jnp, jaxswap
    >>> w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    >>> loss = lambda w: jnp.sum(jnp.tanh(w @ w) @ w)
    >>> plan = jaxswap.plan(
    ...     loss, w, target="h100", policy=jaxswap.policies.FullRemat(), compile=False)
    >>> plan.host_bytes
    0
"""

import dataclasses
from collections.abc import Callable

from jaxswap._graph.graph import Action, Graph
from jaxswap._schedule.decision import Decision
from jaxswap._schedule.lms import LMS
from jaxswap._schedule.swap_heavy import SwapHeavy as SwapHeavy
from jaxswap._schedule.timing import Distance, Timing

PUBLISHED = ("TFLMSv2", "Imai2018", "FullRemat", "SwapEverything", "SaveOnCpu")
"""The published systems among the policies below."""
JAX_OWN = ("DotsSaveable", "OffloadDots")
"""JAX's own policies of the same names, applied to the whole function."""

ALL = (*PUBLISHED, *JAX_OWN, "SwapHeavy")
"""All of them. `jaxswap.plan` starts its search from their drafts."""


@dataclasses.dataclass(frozen=True)
class TFLMSv2:
    """IBM's TFLMSv2 with its auto-tuning: one distance for all tensors.

    Within a budget: if everything fits without swaps, nothing is swapped. Otherwise the
    first `sync_mode` is taken at which maximal swapping fits. Then it takes the largest
    threshold, then the largest `swapin_ahead`, then a `swapin_groupby` that fits. Each
    is found by bisection, as if more never needed less memory. Time is not considered.

    Attributes:
        min_bytes: Tensors smaller than this stay.
        most_ahead: The largest `swapin_ahead` that is tried.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
        >>> loss = lambda w: jnp.sum(jnp.tanh(jnp.tanh(jnp.tanh(w @ w) @ w) @ w))
        >>> plan = jaxswap.plan(loss, w, budget="30MiB", target="h100", compile=False,
        ...                     policy=jaxswap.policies.TFLMSv2())
        >>> plan.device_bytes <= 30 * 2**20
        True

    References:
        `lms.py` (`_search_params`) and `simulator.py` of branch `tflmsv2` of
        github.com/IBM/tensorflow-large-model-support.
    """

    min_bytes: int = 1 << 20
    most_ahead: int = 64

    def decide(self, graph: Graph) -> Decision:
        """Swap as much as possible. This is where its search begins."""
        return self._dials().decide(graph)

    def tune(self, graph: Graph, fits: Callable[[Decision], bool]) -> Decision:
        """Search for options in the order of TFLMSv2."""
        levels = len(graph.equations) + 1
        first = self.decide(graph)

        def decision(**dials: int) -> Decision:
            return dataclasses.replace(first, timing=self._dials(**dials).timing)

        def try_(**dials: int) -> bool:
            return fits(decision(**dials))

        off = decision(swapout_threshold=levels)
        if fits(off):
            return off

        modes = (m for m in (0, 1, 2, 3) if try_(sync_mode=m))
        mode = next(modes, None)
        if mode is None:
            return decision(sync_mode=3)
        dials = {"sync_mode": mode}
        dials["swapout_threshold"] = _largest(
            levels, lambda n: try_(**dials, swapout_threshold=n)
        )
        if mode < 2:
            dials["swapin_ahead"] = _largest(
                self.most_ahead, lambda n: try_(**dials, swapin_ahead=n)
            )
            dials["swapin_groupby"] = _first_midpoint(
                levels, lambda n: try_(**dials, swapin_groupby=n)
            )
        return decision(**dials)

    def _dials(self, **dials: int) -> LMS:
        return dataclasses.replace(LMS(min_bytes=self.min_bytes), **dials)


@dataclasses.dataclass(frozen=True)
class Imai2018:
    """Imai et al. 2018 for the 3D U-Net: swap the encoder and its skip connections.

    Values from the first part of the forward pass lie idle for the longest time. They
    are swapped by LMS's rule. Values of the decoder stay, since the backward pass reads
    them first. Nothing is recomputed.

    Attributes:
        share: The encoder's share of the forward pass's operations.
        swapin_ahead: How many levels before its use a copy starts.

    Example:
        >>> import jaxswap
        >>> policy = jaxswap.policies.Imai2018(swapin_ahead=3)
        >>> loss = jaxswap.offload(lambda x: (x ** 2).sum(), policy=policy)

    References:
        Imai, Matzek, Le, Negishi, Kawachiya 2018, "Fast and Accurate 3D Medical Image
        Segmentation with Data-swapping Method", arXiv 1812.07816. Its tuned values
        are not public; the restriction to the encoder is.
    """

    share: float = 0.5
    swapin_ahead: int = 2

    def decide(self, graph: Graph) -> Decision:
        """Apply LMS's rule to the values that the encoder makes."""
        decision = LMS(swapin_ahead=self.swapin_ahead).decide(graph)
        executed = graph.ancestors(graph.outputs)
        total = sum(graph.equations[i].flops for i in executed)
        actions = list(decision.actions)
        passed = 0.0
        for eqn in graph.equations:
            passed += eqn.flops if eqn.index in executed else 0.0
            for v in eqn.outputs if passed > self.share * total else ():
                if actions[v] is Action.OFFLOAD:
                    actions[v] = Action.KEEP
        timing = dataclasses.replace(decision.timing, swap_cotangents=False)
        return Decision(tuple(actions), timing)


@dataclasses.dataclass(frozen=True)
class FullRemat:
    """Keep only the arguments and recompute everything.

    This is `jax.checkpoint` around the whole function. It saves little memory: all
    values are made again at once when the backward pass begins.

    Example:
        >>> import jaxswap
        >>> policy = jaxswap.policies.FullRemat()
        >>> loss = jaxswap.offload(lambda x: (x ** 2).sum(), policy=policy)

    References:
        Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost",
        arXiv 1604.06174, with one segment.
    """

    def decide(self, graph: Graph) -> Decision:
        """Recompute every value."""
        actions = (Action.RECOMPUTE,) * len(graph.values)
        return Decision(actions, Timing(swap_cotangents=False))


@dataclasses.dataclass(frozen=True)
class SwapEverything:
    """Swap every large value that lies idle, recompute nothing.

    This is vDNN's static policy `all`. A copy back starts one heavy operation before
    the value is used.

    Attributes:
        min_bytes: Values smaller than this stay.

    Example:
        >>> import jaxswap
        >>> policy = jaxswap.policies.SwapEverything()
        >>> loss = jaxswap.offload(lambda x: (x ** 2).sum(), policy=policy)

    References:
        Rhu et al. 2016, "vDNN: Virtualized Deep Neural Networks for Scalable,
        Memory-Efficient Neural Network Design", arXiv 1602.08124.
    """

    min_bytes: int = 1 << 20

    def decide(self, graph: Graph) -> Decision:
        """Swap every large value that the forward pass makes."""
        actions = _of_executed(graph, lambda v: _is_large(graph, v, self.min_bytes))
        timing = Timing(swapout_threshold=1, min_bytes=self.min_bytes)
        return Decision(actions, timing)


@dataclasses.dataclass(frozen=True)
class SaveOnCpu:
    """Swap every residual and wait for every copy.

    This is `torch.autograd.graph.save_on_cpu(pin_memory=True)`. What autodiff saves is
    copied to the host when it is made, and back when it is read. Nothing overlaps
    (github.com/pytorch/pytorch/issues/106360).

    Attributes:
        min_bytes: Values smaller than this stay. 0 is PyTorch's own choice.

    Example:
        >>> import jaxswap
        >>> policy = jaxswap.policies.SaveOnCpu()
        >>> loss = jaxswap.offload(lambda x: (x ** 2).sum(), policy=policy)

    References:
        PyTorch's documentation of `torch.autograd.graph.save_on_cpu`.
    """

    min_bytes: int = 1 << 10

    def decide(self, graph: Graph) -> Decision:
        """Swap what the backward pass reads."""
        residuals = set(graph.residuals())
        large = {v for v in residuals if _is_large(graph, v, self.min_bytes)}
        timing = Timing(
            distance=Distance.LEVEL,
            swapout_threshold=1,
            sync_swapout=True,
            sync_swapin=True,
            min_bytes=self.min_bytes,
            swap_cotangents=False,
        )
        return Decision(_of_executed(graph, large.__contains__), timing)


@dataclasses.dataclass(frozen=True)
class DotsSaveable:
    """Keep the results of heavy operations, recompute the rest.

    This is `jax.checkpoint_policies.dots_saveable`. There, convolutions do not count as
    heavy operations. Here they do.

    Example:
        >>> import jaxswap
        >>> policy = jaxswap.policies.DotsSaveable()
        >>> loss = jaxswap.offload(lambda x: (x ** 2).sum(), policy=policy)

    References:
        JAX's documentation of `jax.checkpoint_policies`.
    """

    def decide(self, graph: Graph) -> Decision:
        """Keep heavy results."""
        actions = _by_weight(graph, Action.KEEP)
        return Decision(actions, Timing(swap_cotangents=False))


@dataclasses.dataclass(frozen=True)
class OffloadDots:
    """Swap the results of heavy operations, recompute the rest, swap in early.

    This is `jax.checkpoint_policies.offload_dot_with_no_batch_dims`. With JAX's own
    version, the compiler may start all copies back when the backward pass begins. Here
    they start a few heavy operations ahead, which needs less memory.

    Attributes:
        swapin_ahead: How many heavy operations before its use a copy may start.

    Example:
        >>> import jaxswap
        >>> policy = jaxswap.policies.OffloadDots(swapin_ahead=1)
        >>> loss = jaxswap.offload(lambda x: (x ** 2).sum(), policy=policy)

    References:
        JAX's documentation of `jax.checkpoint_policies`.
    """

    swapin_ahead: int = 2

    def decide(self, graph: Graph) -> Decision:
        """Swap heavy results."""
        timing = Timing(
            swapout_threshold=1,
            swapin_ahead=self.swapin_ahead,
            copies_in_flight=1 << 20,
            swap_cotangents=False,
        )
        return Decision(_by_weight(graph, Action.OFFLOAD), timing)


def _is_large(graph: Graph, v: int, min_bytes: int) -> bool:
    return graph.values[v].nbytes >= max(1, min_bytes)


def _of_executed(
    graph: Graph, is_offloaded: Callable[[int], bool]
) -> tuple[Action, ...]:
    """Swap some values. Recompute what the forward pass itself does not need."""
    executed = graph.ancestors(graph.outputs)
    actions = [Action.KEEP] * len(graph.values)
    for eqn in graph.equations:
        for v in () if eqn.is_backward else eqn.outputs:
            if eqn.index not in executed:
                actions[v] = Action.RECOMPUTE
            elif is_offloaded(v):
                actions[v] = Action.OFFLOAD
    return tuple(actions)


def _by_weight(graph: Graph, of_heavy: Action) -> tuple[Action, ...]:
    """Give results of heavy operations one action. Recompute everything else."""
    heavy = {
        v
        for eqn in graph.equations
        if eqn.is_heavy and not eqn.is_backward
        for v in eqn.outputs
    }
    return tuple(
        of_heavy if value.index in heavy else Action.RECOMPUTE for value in graph.values
    )


def _largest(high: int, fits: Callable[[int], bool]) -> int:
    """Return the largest fitting number up to `high`, if all below fit. 1 must fit."""
    low = 1
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _first_midpoint(high: int, fits: Callable[[int], bool]) -> int:
    """Return `high` if it fits, else the first midpoint that fits, else 0."""
    if fits(high):
        return high
    low = 0
    while low < high:
        middle = (low + high) // 2
        if middle and fits(middle):
            return middle
        high = middle
    return 0
