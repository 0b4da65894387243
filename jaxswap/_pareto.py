"""Budgets -> step times: for each method, the time that less memory costs."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxswap._base.errors import BudgetError
from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._gpu.target import Target
from jaxswap._graph.graph import Action, Value
from jaxswap._planner import plan
from jaxswap._plans.plan import Plan
from jaxswap._schedule.decision import Policy
from jaxswap._view.table import table_lines

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Budgets, as shares of what the function needs with everything kept."""
OWN = "jaxswap"
"""Name of the planner's own curve."""

AnyPolicy = Policy | Action | Callable[[Value], Action]


@dataclasses.dataclass(frozen=True)
class Point:
    """One plan of the curve.

    Attributes:
        method: The policy's name. `"jaxswap"` for the planner.
        budget_bytes: The budget. `None` for a policy that does not adapt to one.
        device_bytes: Device memory, compiled or simulated. Of what does not fit, the
            smallest budget that would do.
        host_bytes: Pinned host memory. 0 for what does not fit.
        seconds: Simulated seconds of a step. 0 for what does not fit.
        fits: Whether it fits the budget.
        bound_seconds: No plan for this budget is faster, by the planner's model. 0 if
            the model gives no bound.

    Example:
        >>> import jaxswap
        >>> point = jaxswap.Point("LMS", 2**30, 10**9, 2**29, 0.012, fits=True)
        >>> point.device_bytes <= point.budget_bytes
        True
    """

    method: str
    budget_bytes: int | None
    device_bytes: int
    host_bytes: int
    seconds: float
    fits: bool
    bound_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Pareto:
    """How much time a step takes for less memory.

    Attributes:
        target: The GPU's name.
        plain: The step that keeps everything.
        points: Plans, by method, the largest budget first.

    Example:
        >>> import jaxswap
        >>> kept = jaxswap.Point("plain", None, 2**31, 0, 0.010, fits=True)
        >>> swapped = jaxswap.Point("LMS", 2**30, 10**9, 2**30, 0.012, fits=True)
        >>> jaxswap.Pareto("h100", kept, (swapped,)).curves()
        {'LMS': [(1000000000, 0.012)]}
    """

    target: str
    plain: Point
    points: tuple[Point, ...]

    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Device bytes and seconds of the plans that fit, by method."""
        found: dict[str, list[tuple[int, float]]] = {}
        for point in self.points:
            if point.fits:
                pair = (point.device_bytes, point.seconds)
                found.setdefault(point.method, []).append(pair)
        return found

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the curves. If a path is given, write them to a `.png` or `.svg`."""
        from jaxswap._view.plot import plot_pareto

        plain = (self.plain.device_bytes, self.plain.seconds)
        bound = [
            (p.device_bytes, p.bound_seconds)
            for p in self.points
            if p.method == OWN and p.fits and p.bound_seconds
        ]
        return plot_pareto(self.curves(), path, plain=plain, bound=bound)

    def __str__(self) -> str:
        """Write a table."""
        head = ("method", "budget", "device", "host", "step (simulated)", "")
        rows: list[tuple[str, ...]] = [head]
        for p in (self.plain, *self.points):
            budget = "" if p.budget_bytes is None else format_bytes(p.budget_bytes)
            needed = format_bytes(p.device_bytes)
            if not p.fits:
                rows.append((p.method, budget, "", "", "", f"needs {needed}"))
                continue
            host, step = format_bytes(p.host_bytes), format_seconds(p.seconds)
            rows.append((p.method, budget, needed, host, step, ""))
        return "\n".join(table_lines(rows))


def pareto(
    fn: Callable[..., Any],
    *args: Any,
    target: str | Target | None = None,
    budgets: Sequence[int | str] | None = None,
    policies: Mapping[str, AnyPolicy] | None = None,
    compile: bool = False,
    progress: bool | Callable[[str], None] = True,
    **options: Any,
) -> Pareto:
    """Plan a function for several budgets: what does less memory cost in time?

    Args:
        fn: The loss, as `jaxswap.plan` takes it.
        *args: Its arguments: arrays or their types.
        target: The GPU or machine, as in `jaxswap.plan`.
        budgets: Device memory to plan for. `None`: from nine to three tenths of what
            the function needs if everything is kept, and the smallest that works.
        policies: Methods to compare with, by name, such as those of
            `jaxswap.policies`. Each is planned at each budget.
        compile: Whether to compile every plan, which takes longer. If not, bytes are
            simulated, as seconds are.
        progress: As in `jaxswap.plan`.
        **options: Further options of `jaxswap.plan`, and keyword arguments of `fn`.

    Returns:
        The points, with methods to print and to draw them.

    Raises:
        ValueError: As `jaxswap.plan` does.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
        >>> loss = lambda w: jnp.sum(jnp.tanh(jnp.tanh(jnp.tanh(w @ w) @ w) @ w))
        >>> curve = jaxswap.pareto(
        ...     loss, w, target="h100", budgets=["30MiB"], progress=False)
        >>> [point.fits for point in curve.points]
        [True]
    """

    def plan_for(budget: Any, policy: AnyPolicy | None) -> Plan:
        # A policy decides at once, so it has no time to search.
        idle = () if policy is None else ("search_seconds",)
        wanted = {name: x for name, x in options.items() if name not in idle}
        return plan(
            fn,
            *args,
            budget=budget,
            target=target,
            policy=policy,
            compile=compile,
            progress=progress,
            **wanted,
        )

    kept = plan_for(None, Action.KEEP)
    if budgets is None:
        asked: list[Any] = [int(share * kept.device_bytes) for share in SHARES]
        asked.append("smallest")
    else:
        asked = list(budgets)
    points: list[Point] = []
    for budget in asked:
        points += _points(plan_for, budget, policies or {})
    points.sort(key=lambda p: (p.method != OWN, p.method, -(p.budget_bytes or 0)))
    plain = _point("plain", None, kept, fits=True)
    return Pareto(kept.target.name, plain, tuple(points))


def _points(
    plan_for: Callable[[Any, AnyPolicy | None], Plan],
    budget: Any,
    policies: Mapping[str, AnyPolicy],
) -> list[Point]:
    """Plan for one budget by each method."""
    points = []
    for name, policy in {OWN: None, **policies}.items():
        if budget == "smallest" and policy is not None:
            continue
        try:
            made = plan_for(budget, policy)
        except BudgetError as error:
            points.append(
                Point(name, error.budget_bytes, error.smallest_bytes, 0, 0.0, False)
            )
        else:
            points.append(_point(name, made.budget_bytes, made, fits=True))
    return points


def _point(method: str, budget: int | None, made: Plan, *, fits: bool) -> Point:
    return Point(
        method=method,
        budget_bytes=budget,
        device_bytes=made.device_bytes,
        host_bytes=made.host_bytes,
        seconds=made.seconds,
        fits=fits,
        bound_seconds=0.0 if made.policy else made.bound_seconds,
    )
