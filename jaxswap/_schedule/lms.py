"""IBM's Large Model Support, as a policy."""

import dataclasses
import re
from collections.abc import Collection

from jaxswap._graph.graph import Action, Graph, Value
from jaxswap._schedule.decision import Decision
from jaxswap._schedule.timing import Distance, Timing


@dataclasses.dataclass(frozen=True)
class LMS:
    """IBM's Large Model Support: tensor swapping with its published dials.

    A tensor is swapped to host memory for every consumer that reads it more than
    `swapout_threshold` topological levels after it was made. Consumers in the forward
    pass (skip connections) count like any other. One-dimensional tensors stay on the
    device. Nothing is recomputed.

    Args:
        swapout_threshold: Level distance between producer and consumer above which a
            tensor is swapped. A smaller number swaps more. At least 1.
        swapin_ahead: A swap-in starts this many levels before its consumer. A larger
            number hides more and needs more memory. At least 1.
        swapin_groupby: Consumers within this many levels share one swap-in. At least
            0.
        sync_mode: 0: copies in both directions run beside computation. 1: computation
            waits for swap-outs. 2: it waits for swap-ins. 3: it waits for both.
        min_bytes: Tensors smaller than this are never swapped.
        include: If given, only tensors whose producer matches one of these regular
            expressions are swapped. They are matched from the beginning of the
            primitive's name, of the scope and of the `checkpoint_name`.
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
        return Decision(tuple(actions), self.timing)

    @property
    def timing(self) -> Timing:
        """When copies start. The dials say this, and nothing else."""
        return Timing(
            distance=Distance.LEVEL,
            swapout_threshold=self.swapout_threshold,
            swapin_ahead=self.swapin_ahead,
            swapin_groupby=self.swapin_groupby,
            sync_swapout=self.sync_mode in (1, 3),
            sync_swapin=self.sync_mode in (2, 3),
            min_bytes=self.min_bytes,
            swap_cotangents=not (self.include or self.exclude),
        )

    def _selects(self, value: Value) -> bool:
        """Whether the filters allow a swap. One-dimensional values always stay."""
        texts = [t for t in (value.primitive, value.scope, value.name) if t]

        def matches(patterns: Collection[str]) -> bool:
            return any(re.match(p, t) for p in patterns for t in texts)

        is_large = value.nbytes >= max(1, self.min_bytes) and len(value.shape) > 1
        is_included = not self.include or matches(self.include)
        return is_large and is_included and not matches(self.exclude)


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
