"""`Plan`: what becomes of each value of a program, and what that costs.

A plan holds the traced program as plain data, so it can be shown, edited and simulated
again without JAX and without the GPU.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxswap._base.files import write_whole
from jaxswap._base.units import format_bytes
from jaxswap._gpu.target import Target, rates_of
from jaxswap._graph.graph import Action, Graph, Loop, Value
from jaxswap._graph.placement import Placement
from jaxswap._graph.signature import Signature, signature_of
from jaxswap._schedule.instructions import Schedule, Swap
from jaxswap._search.measured import Compiled
from jaxswap._simulate.draft import STALE_AFTER, Arranger, Draft
from jaxswap._simulate.timeline import Timeline


@dataclasses.dataclass(frozen=True)
class Row:
    """One decision of a plan.

    Attributes:
        value: What it is about.
        action: What becomes of it.
        seconds: What that costs by itself: to recompute it, or both copies, hidden or
            not.
        stall_seconds: How long computation waits for its copies.
        why: The reason in words.
    """

    value: Value
    action: Action
    seconds: float
    stall_seconds: float
    why: str


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What becomes of each value between the forward and the backward pass, and when.

    Made by `jaxswap.plan`, followed by `jaxswap.offload(fn, plan=...)`.

    Attributes:
        graph: The traced program, as plain data.
        target: The GPU that it is planned for.
        actions: One for each value of the graph, by index.
        swaps: When each swapped value leaves and returns.
        signature: The arguments and the program that it fits.
        budget_bytes: The device memory it was planned for; `None` for none.
        reserve_bytes: The part of the budget that was set aside.
        staleness: When a recomputed value is recomputed once more; see `Draft`.
        host_budget_bytes: The pinned host memory it was planned for.
        bound_seconds: No plan is faster, as far as the planner's model can tell.
        correction_bytes: What compiled programs needed beyond the simulation.
        compiled: What XLA made of it; `None` if it was not compiled.
        policy: The name of the policy it follows; `""` for the planner's own choice.
        plain_graph: The program with its loops left to JAX; `None` if it has none.
        placement: The mesh over which the arguments are split; `None` for one device.
            Bytes and seconds are those of each of its devices.

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
    """

    graph: Graph
    target: Target
    actions: tuple[Action, ...]
    swaps: tuple[Swap, ...]
    signature: Signature
    budget_bytes: int | None = None
    reserve_bytes: int = 0
    staleness: tuple[int, int] = (STALE_AFTER, 1)
    host_budget_bytes: int | None = None
    bound_seconds: float = 0.0
    correction_bytes: int = 0
    compiled: Compiled | None = None
    policy: str = ""
    plain_graph: Graph | None = None
    placement: Placement | None = None

    @property
    def large_bytes(self) -> int:
        """Values smaller than this were not decided on one by one."""
        return self.staleness[1]

    @functools.cached_property
    def arranger(self) -> Arranger:
        """The simulator of this program on this GPU."""
        return Arranger(self.graph, rates_of(self.target), self.large_bytes)

    def simulated_by(self, arrangers: Iterable[Arranger]) -> "Plan":
        """Share simulators that exist already, so that nothing is simulated twice.

        Args:
            arrangers: Of the programs that were searched. Those of the plan's program
                and of the one with its loops left to JAX are shared.

        Returns:
            The plan itself.
        """
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
        return self.arranger.draft(self.actions, self.swaps, self.staleness)

    @property
    def timeline(self) -> Timeline:
        """The simulated step."""
        return self.draft.timeline

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Bodies of loops, those within loops included, and their values' actions."""
        return tuple(_loops(self.graph))

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
        """Device memory: of the compiled program if there is one, else predicted."""
        if self.compiled is not None:
            return self.compiled.device_bytes
        return self.timeline.device_bytes + self.correction_bytes

    @property
    def host_bytes(self) -> int:
        """Pinned host memory: compiled if there is a program, else predicted."""
        if self.compiled is not None:
            return self.compiled.host_bytes
        return self.timeline.host_bytes

    @property
    def seconds(self) -> float:
        """Simulated seconds of one step."""
        return self.timeline.seconds

    @property
    def gap(self) -> float:
        """How much faster than this plan the bound is, as a share of the plan."""
        return (
            max(0.0, 1.0 - self.bound_seconds / self.seconds) if self.seconds else 0.0
        )

    def actions_of_body(self, body: Graph) -> tuple[Action, ...]:
        """Return what becomes of the values of a loop's body.

        Raises:
            ValueError: If the program that was planned has no such loop.
        """
        signature = signature_of(body)
        for loop in self.loops:
            if signature_of(loop.graph) == signature:
                return loop.actions
        raise ValueError(
            "the plan was made for another function: it knows no loop over "
            f"{signature}. Make one for these arguments with jaxswap.plan."
        )

    def schedule_of(self, graph: Graph) -> Schedule:
        """Return the schedule of the plan for a program that was traced again.

        Raises:
            ValueError: If the program is another one than the plan's.
        """
        signature = signature_of(graph)
        if signature != self.signature:
            raise ValueError(
                "the plan was made for other arguments or another function: it fits "
                f"{self.signature}; called with {signature}. Make one for these "
                "arguments with jaxswap.plan."
            )
        return self.draft.schedule

    def with_action(self, value: int | str | Value, action: Action) -> "Plan":
        """Return the plan with another action for a value, laid out and simulated anew.

        The result has not been compiled: its figures are predictions again.

        Args:
            value: A value, its index, or a part of its label; a part that several
                labels have changes all of these values.
            action: What becomes of it.

        Raises:
            ValueError: If no large forward value is meant, or `action` is none.

        Example:
            >>> import jax, jax.numpy as jnp, jaxswap
            >>> w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
            >>> def loss(w):
            ...     return jnp.sum(jnp.tanh(jnp.tanh(w @ w) @ w))
            >>> plan = jaxswap.plan(loss, w, target="h100", compile=False)
            >>> edited = plan.with_action("tanh", jaxswap.RECOMPUTE)
            >>> edited.seconds >= plan.seconds
            True
        """
        if not isinstance(action, Action):
            raise ValueError(
                f"`action` is {action!r}; it must be jaxswap.KEEP, jaxswap.OFFLOAD or "
                "jaxswap.RECOMPUTE."
            )
        actions = list(self.actions)
        for v in self._find(value):
            actions[v] = action
        limit = (self.budget_bytes or self.target.memory_bytes) - self.reserve_bytes
        draft = self.arranger.arrange(actions, limit - self.correction_bytes)
        return dataclasses.replace(
            self,
            actions=draft.actions,
            swaps=draft.swaps,
            staleness=draft.staleness,
            compiled=None,
            policy="",
        )

    def _find(self, value: int | str | Value) -> list[int]:
        """Indices of the values that are meant."""
        decided = [
            v
            for eqn in self.graph.equations
            if not eqn.is_backward
            for v in eqn.outputs
            if self.graph.values[v].nbytes >= self.large_bytes
        ]
        if isinstance(value, str):
            found = [v for v in decided if value in self.graph.values[v].label]
        else:
            index = value.index if isinstance(value, Value) else value
            found = [v for v in decided if v == index]
        if isinstance(value, Value):
            # A value of a loop's body has the index of another one outside of it.
            found = [v for v in found if _is_alike(self.graph.values[v], value)]
        if not found:
            raise ValueError(
                f"`value` is {value!r}, which is no value that the plan decides on: "
                "forward values of at least "
                f"{format_bytes(self.large_bytes)}, listed by print(plan)."
            )
        return found

    @functools.cached_property
    def rows(self) -> tuple[Row, ...]:
        """What was decided on each large value, and why."""
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
        from jaxswap._view.text import summary

        return summary(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw memory over time, before and after, and the three lanes.

        Args:
            path: Where to write the picture, `.png` or `.svg`; `None`: nowhere.

        Returns:
            The matplotlib figure.

        Raises:
            ValueError: If the suffix is neither.
            FileNotFoundError: If the folder does not exist.
            jaxswap.MissingExtraError: If matplotlib is not installed.
        """
        from jaxswap._view.plot import plot_plan

        return plot_plan(self, path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as one HTML page that needs no network.

        Args:
            path: Where to write it as well.

        Raises:
            FileNotFoundError: If the folder does not exist.
        """
        from jaxswap._view.html import to_html

        page = to_html(self)
        if path is not None:
            write_whole(Path(path), page)
        return page

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the plan to a JSON file; `jaxswap.load_plan` reads it.

        Args:
            path: Where to; the folder must exist.

        Returns:
            The path.

        Raises:
            FileNotFoundError: If the folder does not exist.
        """
        from jaxswap._plans.file import save_plan

        return save_plan(self, path)


def _is_alike(one: Value, other: Value) -> bool:
    """Whether two values may be the same one, traced at different times."""
    return (one.shape, one.dtype) == (other.shape, other.dtype)


def _loops(graph: Graph) -> Iterator[Loop]:
    """Loops of a program, those within loops included."""
    for loop in graph.loops:
        yield loop
        yield from _loops(loop.graph)
