"""A mixed-integer linear model of the choice between keep, swap and recompute.

The program is cut into segments. Each candidate has three shares (integers in the end):
it stays, it is swapped, it is recomputed. Swapped bytes flow over the link like a fluid
in each direction, as fast as its bandwidth allows. Computation may be stretched by
stalls to give them time. The objective is the seconds of recomputations and stalls.
Device memory is bounded in each segment.

Recomputations form chains: what a recomputation reads must be stored or recomputed
itself. If a recomputation needs a value earlier than the backward pass itself does, the
value is held from then on.

The form follows Checkmate (Jain et al. 2020), with the time lanes of a swap system
instead of its stages. HiGHS (Huangfu and Hall 2018) solves it.
"""

import functools
import itertools
from array import array
from collections.abc import Sequence

import numpy as np

from jaxswap._search.model import Answer, Model
from jaxswap._search.solver import Matrix, solve_rows


def solve(
    model: Model,
    limit_bytes: int,
    *,
    host_limit_bytes: int | None = None,
    depth: int | None = None,
    most_nodes: int | None = None,
    relative_gap: float = 0.005,
    is_relaxed: bool = False,
) -> Answer | None:
    """Solve the model. Return `None` if its end came before any solution.

    If nothing fits, the answer exceeds the limit by as little as possible.

    Args:
        model: The problem.
        limit_bytes: Device memory for every segment.
        host_limit_bytes: Pinned host memory. `None`: any amount.
        depth: How many recomputations may depend on one another in a row. The model
            underestimates the memory that a long chain of them needs at once.
        most_nodes: Nodes of the solver's tree after which to return the best solution
            so far. `None`: not before the end.
        relative_gap: A solution this close to the bound is good enough.
        is_relaxed: Whether shares may be fractions, which are found faster.
    """
    rows = _Rows(model, limit_bytes, host_limit_bytes, depth)
    options: dict[str, float] = {"mip_rel_gap": relative_gap}
    if most_nodes is not None:
        options["mip_max_nodes"] = most_nodes
    result = solve_rows(
        rows.objective,
        rows.matrix,
        np.array(rows.bounds),
        rows.upper,
        integrality=None if is_relaxed else rows.integrality,
        options=options,
    )
    if result is None:
        return None
    count = len(model.items)
    excess = float(result.x[rows.over])
    return Answer(
        leaves=result.x[:count],
        recomputations=result.x[count : 2 * count],
        stays=result.x[2 * count : 3 * count],
        extra_seconds=result.cost * rows.tick,
        excess_bytes=excess * rows.unit,
        device_bytes=rows.memory(result.x),
    )


def bound_seconds(model: Model, limit_bytes: int) -> float:
    """Return the least seconds that recomputations and stalls add. 0 if unknown.

    For a good proposal the model overestimates some things: gaps made shorter by the
    entries that hide a copy, values held early, and bytes under way in the segment in
    which their copy begins or ends. The bound leaves all of these out. It also allows
    fractions instead of integers.
    """
    rows = _Rows(model, limit_bytes, None, None, is_bound=True)
    bounds = np.array(rows.bounds)
    result = solve_rows(rows.objective, rows.matrix, bounds, rows.upper)
    if result is None or result.x[rows.over] > 1e-6:
        return 0.0
    return max(0.0, result.cost) * rows.tick


Term = tuple[int, float]


class _Rows:
    """The inequalities `matrix @ x <= bounds`, scaled so that numbers are near one.

    x holds, in this order: for each item the share that leaves, that is recomputed and
    that stays for recomputations; for each segment the bytes sent by its end, landed by
    its end and waiting to be sent, and its stall; the shares held early for
    recomputations; the bytes over the limit; and, if chains of recomputations are
    limited, the level of each recomputation.
    """

    def __init__(
        self,
        model: Model,
        limit_bytes: int,
        host_limit_bytes: int | None,
        depth: int | None,
        *,
        is_bound: bool = False,
    ) -> None:
        self.model = model
        self.is_bound = is_bound
        self.length = len(model.seconds)
        count = len(model.items)
        self.unit = float(max((item.nbytes for item in model.items), default=1))
        self.tick = max(float(model.seconds.sum()), 1e-9) / self.length
        self.leave, self.recompute, self.stay = 0, count, 2 * count
        self.sent = 3 * count
        self.landed = self.sent + self.length
        self.pending = self.landed + self.length
        self.stall = self.pending + self.length
        self.hold = self.stall + self.length
        self.holds = [] if is_bound else self._early_holds()
        self.over = self.hold + len(self.holds)
        self.level = self.over + 1
        width = self.level + (0 if depth is None else count)
        self.starts: list[int] = []  # of each row, in the two lists that follow
        self.columns = array("i")
        self.factors = array("d")
        self.bounds: list[float] = []
        self.upper = np.full(width, np.inf)
        self.objective = np.zeros(width)
        self.integrality = np.zeros(width)
        self._variables()
        self._choices()
        self._lanes()
        if depth is not None:
            self._limit_runs(depth)
        if host_limit_bytes is not None:
            sizes = [item.nbytes / self.unit for item in model.items]
            self._row(list(enumerate(sizes)), host_limit_bytes / self.unit)
        self.memory_start = len(self.bounds)
        self._memory(limit_bytes)

    @functools.cached_property
    def matrix(self) -> Matrix:
        return Matrix.of([*self.starts, len(self.columns)], self.columns, self.factors)

    def memory(self, x: np.ndarray) -> np.ndarray:
        """Return the modelled bytes of each segment in a solution."""
        added = self.matrix.product(x, self.memory_start) + x[self.over]
        return added * self.unit + self.model.device_bytes

    def _row(self, terms: Sequence[Term], bound: float) -> None:
        self.starts.append(len(self.columns))
        self.columns.extend([column for column, _ in terms])
        self.factors.extend([factor for _, factor in terms])
        self.bounds.append(bound)

    def _early_holds(self) -> list[tuple[int, int, int]]:
        """Return (item, first segment, end) if recomputations need an item early."""
        items = self.model.items
        early: dict[int, set[int]] = {}
        for item in items:
            for j in item.roots if item.recompute_seconds is not None else ():
                if item.use < items[j].use:
                    early.setdefault(j, set()).add(item.use)
        found = []
        for j, segments in early.items():
            marks = [*sorted(segments), items[j].use]
            found += [(j, s, e) for s, e in itertools.pairwise(marks)]
        return found

    def _variables(self) -> None:
        """Set bounds and costs of every variable."""
        model = self.model
        count = len(model.items)
        link = 1 / model.out_bytes_per_second + 1 / model.in_bytes_per_second
        self.integrality[: 3 * count] = 1
        self.upper[: 3 * count] = 1
        self.upper[self.hold : self.over] = 1
        # Bytes over the limit. Their price outweighs every second.
        self.objective[self.over] = 10.0 * self.length
        for i, item in enumerate(model.items):
            if item.recompute_seconds is None:
                self.upper[self.recompute + i] = 0
            if item.is_needed:
                self.upper[self.stay + i] = 0
            self.objective[self.recompute + i] = (
                item.recompute_seconds or 0
            ) / self.tick
            if not item.can_leave:
                self.upper[self.leave + i] = 0
            # Of equal solutions, the one with less traffic is better.
            issue = model.copy_seconds * (2 + len(item.away))
            price = 0.0 if self.is_bound else issue + 1e-3 * item.nbytes * link
            self.objective[self.leave + i] = price / self.tick
        self.objective[self.stall : self.hold] = 1

    def _choices(self) -> None:
        """Allow one action for each item. What a recomputation reads must be there."""
        items = self.model.items
        for i, item in enumerate(items):
            mine = [self.leave + i, self.recompute + i, self.stay + i]
            self._row([(v, 1.0) for v in mine], 1)
            for j in item.roots if item.recompute_seconds is not None else ():
                if not items[j].is_needed:
                    stored = (self.leave + j, self.recompute + j, self.stay + j)
                    terms = [(v, -1.0) for v in stored]
                    self._row([(self.recompute + i, 1.0), *terms], 0)
        for h, (j, start, _) in enumerate(self.holds):
            moved = [(self.leave + j, 1.0), (self.recompute + j, 1.0)]
            for i, item in enumerate(items):
                if item.use == start and j in item.roots:
                    if items[j].is_needed:
                        terms = [
                            (self.recompute + i, 1.0),
                            *moved,
                            (self.hold + h, -1.0),
                        ]
                        self._row(terms, 1)
                    else:
                        terms = [(self.recompute + i, 1.0), (self.hold + h, -1.0)]
                        self._row(terms, 0)
            if h and self.holds[h - 1][0] == j:
                self._row([(self.hold + h - 1, 1.0), (self.hold + h, -1.0)], 0)

    def _limit_runs(self, depth: int) -> None:
        """Put each recomputation a level above those it reads. Limit the levels."""
        self.upper[self.level :] = depth
        for i, item in enumerate(self.model.items):
            for j in item.roots if item.recompute_seconds is not None else ():
                levels = [(self.level + j, 1.0), (self.level + i, -1.0)]
                self._row([*levels, (self.recompute + i, depth + 1.0)], float(depth))

    def _lanes(self) -> None:
        """Copies take time. They begin after the value is made and end before a use."""
        model, unit = self.model, self.unit
        self.due = self._due()
        recomputed: list[list[tuple[int, float]]] = [[] for _ in range(self.length)]
        made: list[list[Term]] = [[] for _ in range(self.length)]
        left: list[list[Term]] = [[] for _ in range(self.length)]
        for i, item in enumerate(model.items):
            share = (self.leave + i, item.nbytes / unit)
            made[item.made].append(share)
            left[max(item.gap[0] - 1, item.made)].append(share)
            if item.recompute_seconds:
                recomputed[item.use].append(
                    (self.recompute + i, item.recompute_seconds)
                )
        all_made: list[Term] = []
        all_left: list[Term] = []
        all_due: list[Term] = []
        for t in range(self.length):
            all_made += [(v, -c) for v, c in made[t]]
            if not self.is_bound:
                all_left += left[t]
            elif t:  # At its last use, a value counts as one that is there.
                all_left += left[t - 1]
            for fluid, rate in (
                (self.sent, model.out_bytes_per_second),
                (self.landed, model.in_bytes_per_second),
            ):
                flow = [(fluid + t, 1.0), *([(fluid + t - 1, -1.0)] if t else [])]
                flow.append((self.stall + t, -rate * self.tick / unit))
                flow += [(v, -seconds * rate / unit) for v, seconds in recomputed[t]]
                self._row(flow, rate * model.seconds[t] / unit)
                if t:
                    self._row([(fluid + t - 1, 1.0), (fluid + t, -1.0)], 0)
            self._row([(self.sent + t, 1.0), *all_made], 0)
            waiting = [(self.sent + t, -1.0), (self.pending + t, -1.0)]
            self._row([*all_left, *waiting], 0)
            if t + 1 < self.length:
                all_due += self.due[t + 1]
            if all_due:
                self._row([*all_due, (self.landed + t, -1.0)], 0)

    def _due(self) -> list[list[Term]]:
        """For each segment: bytes used first after a stretch on the host."""
        due: list[list[Term]] = [[] for _ in range(self.length)]
        for i, item in enumerate(self.model.items):
            share = (self.leave + i, item.nbytes / self.unit)
            for end in (item.use, *(last + 1 for _, last in item.away)):
                due[min(end, self.length - 1)].append(share)
        return due

    def _memory(self, limit_bytes: int) -> None:
        """Limit the device memory of each segment."""
        model, unit = self.model, self.unit
        terms: list[list[Term]] = [[] for _ in range(self.length)]
        for i, item in enumerate(model.items):
            size = item.nbytes / unit
            first, last = item.gap
            for t in range(first, last + 1):
                is_inner = self.is_bound or first < t < last
                if item.is_needed:
                    terms[t].append((self.recompute + i, -size))
                    if is_inner:
                        terms[t].append((self.leave + i, -size))
                else:
                    terms[t].append((self.stay + i, size))
                    if not is_inner:
                        terms[t].append((self.leave + i, size))
            margin = 0 if self.is_bound else 1
            for start, end in item.away:
                for t in range(start + margin, end + 1 - margin):
                    terms[t].append((self.leave + i, -size))
                    if self.is_bound and start > item.use:  # recomputed once more
                        terms[t].append((self.recompute + i, -size))
        for h, (j, start, end) in enumerate(self.holds):
            for t in range(start, end):
                terms[t].append((self.hold + h, model.items[j].nbytes / unit))
        arrived: list[Term] = []
        for t in range(self.length):
            arrived += [(v, -c) for v, c in self.due[t]]
            since = (
                t - self.is_bound
            )  # What lands in a segment may come behind its peak.
            flowing = [(self.pending + t, 1.0)]
            if since >= 0:
                flowing += [(self.landed + since, 1.0), *arrived]
            bound = (limit_bytes - model.device_bytes[t]) / unit
            self._row([*terms[t], *flowing, (self.over, -1.0)], bound)
