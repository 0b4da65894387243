"""`Plan`: the action of each value of a program, and what these actions cost.

A plan holds the traced program as plain data. So it can be shown, edited and simulated
again without JAX and without the GPU.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxswap._base.files import write_whole
from jaxswap._gpu.target import Target, rates_of
from jaxswap._graph.graph import Action, Graph, Loop, Segment, Value
from jaxswap._graph.placement import Placement
from jaxswap._graph.signature import Signature, signature_of
from jaxswap._plans.naming import named_values
from jaxswap._schedule.instructions import Schedule, Swap
from jaxswap._search.measured import Compiled
from jaxswap._simulate.draft import STALE_AFTER, Arranger, Draft
from jaxswap._simulate.timeline import Timeline
from jaxswap._slabs.slabs import Slabs


@dataclasses.dataclass(frozen=True)
class Row:
    """One decision of a plan.

    Attributes:
        value: The value that is decided on.
        action: Its action.
        seconds: What the action costs by itself: the time to recompute the value, or
            of both copies, hidden or not.
        stall_seconds: How long computation waits for the value's copies.
        why: The reason in words.
    """

    value: Value
    action: Action
    seconds: float
    stall_seconds: float
    why: str


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The action of each value between forward and backward pass, and all copies.

    `jaxswap.plan` makes it. `jaxswap.offload(fn, plan=...)` follows it.

    Attributes:
        graph: The traced program, as plain data.
        target: The GPU that the plan is made for.
        actions: One for each value of the graph, by index.
        swaps: When each swapped value leaves and returns.
        signature: The arguments and the program that the plan fits.
        budget_bytes: The device memory that it was planned for. `None` for no budget.
        reserve_bytes: The part of the budget that was set aside.
        staleness: When a recomputed value is recomputed once more. See `Draft`.
        hold_for: For how many heavy operations of the backward pass a recomputed value
            is held. Then it is recomputed once more. 0: until its last use.
        in_place_bytes: Results of at least so many bytes are written over operands that
            are not read again. 0: XLA decides.
        host_budget_bytes: The pinned host memory that it was planned for.
        bound_seconds: No plan is faster, by the planner's model.
        correction_bytes: What compiled programs needed beyond the simulation.
        compiled: What XLA made of the plan. `None` if it was not compiled.
        policy: Name of the policy that it follows. `""` for the planner's own choice.
        plain_graph: The program as JAX runs it. `None` if `graph` is this one.
        placement: The mesh over which the arguments are split. `None` for one device.
            Bytes and seconds are those of each device.
        compiler_options: The options of XLA that `jaxswap.jit` passes for the plan.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
        >>> def loss(w):
        ...     return jnp.sum(jnp.tanh(jnp.tanh(w @ w) @ w))
        >>> plan = jaxswap.plan(loss, w, target="h100", compile=False)
        >>> {row.action for row in plan.rows} <= set(jaxswap.Action)
        True
        >>> plan.device_bytes <= plan.target.memory_bytes
        True
        >>> plan.with_action("tanh", jaxswap.RECOMPUTE).seconds >= plan.seconds
        True
    """

    graph: Graph
    target: Target
    actions: tuple[Action, ...]
    swaps: tuple[Swap, ...]
    signature: Signature
    budget_bytes: int | None = None
    reserve_bytes: int = 0
    staleness: tuple[int, int] = (STALE_AFTER, 1)
    hold_for: int = 0
    in_place_bytes: int = 0
    host_budget_bytes: int | None = None
    bound_seconds: float = 0.0
    correction_bytes: int = 0
    compiled: Compiled | None = None
    policy: str = ""
    plain_graph: Graph | None = None
    placement: Placement | None = None
    compiler_options: Mapping[str, bool] = dataclasses.field(default_factory=dict)

    @property
    def slabs(self) -> Slabs | None:
        """How the finest values are cut into slabs. `None` if they are not."""
        return self.graph.slabs

    @property
    def large_bytes(self) -> int:
        """The smallest size of a value that was decided on by itself."""
        return self.staleness[1]

    @functools.cached_property
    def arranger(self) -> Arranger:
        """The simulator of this program on this GPU."""
        return Arranger(self.graph, rates_of(self.target), self.large_bytes)

    def simulated_by(self, draft: Draft, arrangers: Iterable[Arranger]) -> "Plan":
        """Share what exists already, so that nothing is simulated twice.

        Args:
            draft: The draft that the plan was made of.
            arrangers: The simulators of the programs that were searched. Two are
                shared: that of the plan's program, and that with loops left to JAX.

        Returns:
            The plan itself.
        """
        vars(self)["draft"] = draft
        plain_graph = self.graph if self.plain_graph is None else self.plain_graph
        for arranger in arrangers:
            if arranger.graph is self.graph:
                vars(self)["arranger"] = arranger
            if arranger.graph is plain_graph:
                vars(self)["plain"] = arranger.all_kept.timeline
        return self

    @functools.cached_property
    def draft(self) -> Draft:
        """The schedule and its simulation."""
        return self.arranger.draft(
            self.actions,
            self.swaps,
            self.staleness,
            self.hold_for,
            self.in_place_bytes,
        )

    @property
    def timeline(self) -> Timeline:
        """The simulated step."""
        return self.draft.timeline

    @property
    def loops(self) -> tuple[Loop, ...]:
        """All loops, inner loops included, and how their iterations run."""
        return tuple(loops_of(self.graph.loops))

    @property
    def all_kept(self) -> Timeline:
        """The simulated step if every value outside of loops is kept."""
        return self.arranger.all_kept.timeline

    @functools.cached_property
    def plain(self) -> Timeline:
        """The simulated step if every value that the backward pass reads is kept."""
        if self.plain_graph is None:
            return self.all_kept
        return Arranger(self.plain_graph, rates_of(self.target)).all_kept.timeline

    @property
    def device_bytes(self) -> int:
        """Device memory of the compiled program. If there is none, the predicted."""
        if self.compiled is not None:
            return self.compiled.device_bytes
        return self.timeline.device_bytes + self.correction_bytes

    @property
    def host_bytes(self) -> int:
        """Pinned host memory of the compiled program. If none exists, the predicted."""
        if self.compiled is not None:
            return self.compiled.host_bytes
        return self.timeline.host_bytes

    @property
    def seconds(self) -> float:
        """Simulated seconds of one step."""
        return self.timeline.seconds

    @property
    def gap(self) -> float:
        """How much faster than this plan the lower bound is, as a share of the plan."""
        return (
            max(0.0, 1.0 - self.bound_seconds / self.seconds) if self.seconds else 0.0
        )

    def segments_of(self, body: Graph) -> tuple[Segment, ...]:
        """Return how the iterations of a loop run, which has this body.

        Raises:
            ValueError: If the program that was planned has no such loop.
        """
        signature = signature_of(body)
        for loop in self.loops:
            if signature_of(loop.graph) == signature:
                return loop.segments
        raise ValueError(
            "the plan was made for another function: it has no loop over "
            f"{signature}. Make a plan for these arguments with jaxswap.plan."
        )

    def schedule_of(self, graph: Graph) -> Schedule:
        """Return the schedule of the plan for a program that was traced again.

        Raises:
            ValueError: If the program differs from the plan's.
        """
        signature = signature_of(graph)
        if signature != self.signature:
            raise ValueError(
                "the plan was made for other arguments or another function: it fits "
                f"{self.signature}; called with {signature}. Make a plan for these "
                "arguments with jaxswap.plan."
            )
        return self.draft.schedule

    def with_action(self, value: int | str | Value, action: Action) -> "Plan":
        """Return the plan with another action for a value, laid out and simulated anew.

        The result has not been compiled, so its figures are predictions.

        Args:
            value: A value, its index, or a part of its label. If several labels have
                this part, all of these values change.
            action: The new action.

        Raises:
            ValueError: If `value` is no large forward value outside of loops, or
                `action` no action. What a loop stores is part of the traced program:
                plan anew with a policy, which is asked about values in loops, too.
        """
        if not isinstance(action, Action):
            raise ValueError(
                f"`action` is {action!r}; it must be jaxswap.KEEP, jaxswap.OFFLOAD or "
                "jaxswap.RECOMPUTE."
            )
        actions = list(self.actions)
        for v in named_values(self.graph, self.loops, self.large_bytes, value):
            actions[v] = action
        limit = (self.budget_bytes or self.target.memory_bytes) - self.reserve_bytes
        draft = self.arranger.arrange(
            actions, limit - self.correction_bytes, hold_for=self.hold_for
        )
        return dataclasses.replace(
            self,
            actions=draft.actions,
            swaps=draft.swaps,
            staleness=draft.staleness,
            in_place_bytes=draft.in_place_bytes,
            compiled=None,
            policy="",
        )

    @functools.cached_property
    def rows(self) -> tuple[Row, ...]:
        """The action of each large value, and why."""
        from jaxswap._view.rows import rows_of

        return rows_of(self)

    def __str__(self) -> str:
        """Write the main numbers and a table of the decisions."""
        from jaxswap._view.text import describe

        return describe(self)

    def __repr__(self) -> str:
        """Write the main numbers on one line."""
        return (
            f"Plan(target={self.target.name!r}, device_bytes={self.device_bytes}, "
            f"host_bytes={self.host_bytes}, seconds={self.seconds:.6g})"
        )

    def summary(self) -> dict[str, Any]:
        """Return the numbers and decisions as plain data, ready for JSON."""
        from jaxswap._view.data import summary

        return summary(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw memory over time, before and after, and the three lanes.

        Args:
            path: A `.png` or `.svg` file to write the picture to. `None`: no file.

        Returns:
            The matplotlib figure.

        Raises:
            ValueError: If `path` ends in neither `.png` nor `.svg`.
            FileNotFoundError: If the folder does not exist.
            jaxswap.MissingExtraError: If matplotlib is not installed.
        """
        from jaxswap._view.plot import plot_plan

        return plot_plan(self, path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as one HTML page that needs no network.

        Args:
            path: A file to write the page to, too.

        Raises:
            FileNotFoundError: If the folder does not exist.
        """
        from jaxswap._view.html import to_html

        page = to_html(self)
        if path is not None:
            write_whole(Path(path), page)
        return page

    def to_perfetto(self, path: str | os.PathLike[str]) -> Path:
        """Write the simulated step to a file that ui.perfetto.dev opens.

        Kernels, copies each way, and memory. Time starts at 0, as in the file of a
        `jaxswap.Profile`, so that both can be opened together.

        Args:
            path: Where to; it must end in `.json`, and its folder must exist.

        Returns:
            The path.

        Raises:
            ValueError: If the path does not end in `.json`.
            FileNotFoundError: If the folder does not exist.
        """
        from jaxswap._view.perfetto import plan_events, write_trace

        return write_trace(path, plan_events(self))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the plan to a JSON file. `jaxswap.load_plan` reads it.

        If the writing is interrupted, an older file stays as it was.

        Args:
            path: The file to write. Its folder must exist.

        Returns:
            The path.

        Raises:
            FileNotFoundError: If the folder does not exist.
        """
        from jaxswap._plans.file import save_plan

        return save_plan(self, path)


def checked_plan(plan: object) -> Plan:
    """Return what was given as `plan=`; refuse what is none."""
    if isinstance(plan, Plan):
        return plan
    raise TypeError(
        f"`plan` is {plan!r}; it must be a plan from jaxswap.plan or jaxswap.load_plan."
    )


def loops_of(loops: Sequence[Loop]) -> Iterator[Loop]:
    """Go over loops and the loops that run inside of them."""
    for loop in loops:
        yield loop
        yield from loops_of(loop.inner)
