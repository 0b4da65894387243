"""Draft and candidates -> `Model`: the program cut into segments, with its items.

Segments are cut at heavy entries of the draft in which everything is kept. If there are
too many, neighbours are joined. Another draft of the same program has the same
segments: a recomputation belongs to the segment of the entry that needs it.
"""

import dataclasses
import itertools

import numpy as np

from jaxswap._graph.compress import share_copied
from jaxswap._graph.graph import Action
from jaxswap._search.candidates import Candidates
from jaxswap._search.model import Item, Model
from jaxswap._simulate.draft import Arranger, Draft, seconds_at
from jaxswap._simulate.kernels import Kernel
from jaxswap._sketch.sketch import Entries, entries_of

MOST_SEGMENTS = 160
"""With more segments the model is slower, and hardly better."""


@dataclasses.dataclass(frozen=True)
class Segments:
    """The segment of each equation.

    Attributes:
        of_equation: The segment in which each equation is run first.
        count: How many segments there are.
    """

    of_equation: dict[int, int]
    count: int

    def of_entries(self, entries: Entries) -> np.ndarray:
        """Return the segment of each entry. Recomputations belong to what follows."""
        found = np.zeros(len(entries.equations), np.int64)
        current = self.count - 1
        for at in range(len(found) - 1, -1, -1):
            if not entries.is_recomputed[at]:
                equation = int(entries.equations[at])
                current = min(self.of_equation.get(equation, current), current)
            found[at] = current
        return found

    def peaks(self, entries: Entries) -> np.ndarray:
        """Return the most device memory of a draft in each segment."""
        found = np.zeros(self.count, np.int64)
        np.maximum.at(found, self.of_entries(entries), entries.device_bytes)
        return found


def cut(draft: Draft) -> Segments:
    """Cut the entries of a draft into segments of about equal numbers of heavy ones."""
    heavy = sum(entry.is_heavy for entry in draft.entries)
    is_cut_anywhere = heavy < 8
    total = len(draft.entries) if is_cut_anywhere else heavy
    per_segment = max(1, -(-total // MOST_SEGMENTS))
    of_equation: dict[int, int] = {}
    passed = 0
    for entry in draft.entries:
        passed += is_cut_anywhere or entry.is_heavy
        for equation, _ in entry.parts:
            of_equation.setdefault(equation, (max(passed, 1) - 1) // per_segment)
    return Segments(of_equation, 1 + max(of_equation.values(), default=0))


def build_model(
    arranger: Arranger, candidates: Candidates, kept: Draft, segments: Segments
) -> tuple[Model, tuple[int, ...]]:
    """Return the model, and the value of each of its items."""
    entries = entries_of(kept)
    at = segments.of_entries(entries)
    seconds = np.zeros(segments.count)
    np.add.at(seconds, at, seconds_at(kept.entries, kept.timeline))
    builder = _Items(arranger, candidates, kept, at)
    items, values = builder.items()
    rates, share = arranger.simulator.rates, share_copied(arranger.graph)
    model = Model(
        seconds=seconds,
        device_bytes=segments.peaks(entries).astype(float),
        items=items,
        out_bytes_per_second=rates.swap_out_bytes_per_second / share,
        in_bytes_per_second=rates.swap_in_bytes_per_second / share,
        copy_seconds=rates.launch_seconds,
    )
    return model, values


Presence = tuple[int, list[tuple[int, int]], bool]
"""Segment in which a value is made, its gaps, whether the backward pass reads it."""


class _Items:
    """Describes candidates in terms of segments."""

    def __init__(
        self, arranger: Arranger, candidates: Candidates, kept: Draft, at: np.ndarray
    ) -> None:
        self.graph = arranger.graph
        self.candidates = candidates
        self.at = at
        self.entries = kept.entries
        forward = [
            s for s, e in zip(at, kept.entries, strict=True) if not e.is_backward
        ]
        self.forward_end = int(max(forward, default=0))
        self.roots, self.seconds, self.reads = self._kernels(kept)

    def items(self) -> tuple[tuple[Item, ...], tuple[int, ...]]:
        spans = {
            v: span
            for v in (*self.candidates.forward, *self.candidates.backward)
            if (span := self._span(v)) is not None
        }
        spans |= self._unneeded(spans)
        values = tuple(v for v, (_, gaps, _) in spans.items() if gaps)
        position = {v: i for i, v in enumerate(values)}
        return tuple(self._item(v, spans[v], position) for v in values), values

    def _item(
        self,
        v: int,
        span: Presence,
        position: dict[int, int],
    ) -> Item:
        made, gaps, is_needed = span
        main = self._main(v, gaps)
        can_recompute = v in self.candidates.recomputable and all(
            root in position or self._is_small(root) for root in self.roots.get(v, ())
        )
        is_bridged = main[1] - main[0] >= 2
        return Item(
            nbytes=self.graph.values[v].nbytes,
            made=made,
            gap=(main[0] + 1, main[1] - 1),
            away=tuple((a + 1, b - 1) for a, b in gaps if (a, b) != main),
            use=main[1],
            is_needed=is_needed,
            recompute_seconds=(
                self.seconds.get(v, 0.0) if can_recompute and is_bridged else None
            ),
            roots=tuple(position[r] for r in self.roots.get(v, ()) if r in position),
        )

    def _main(self, v: int, gaps: list[tuple[int, int]]) -> tuple[int, int]:
        """Return the gap from forward to backward pass. Recomputing can bridge it."""
        if v in self.candidates.backward:
            return max(gaps, key=lambda gap: gap[1] - gap[0])
        last = max(s for s in self.reads[v] if s <= self.forward_end)
        behind = [s for s in self.reads[v] if s > self.forward_end]
        ends = [b for _, b in gaps if b > self.forward_end]
        return last, min(behind, default=min(ends, default=last))

    def _is_small(self, v: int) -> bool:
        return v not in self.candidates.forward

    def _kernels(
        self, kept: Draft
    ) -> tuple[dict[int, tuple[int, ...]], dict[int, float], dict[int, list[int]]]:
        """Return each buffer's roots, seconds and the segments that read it."""
        steps = kept.timeline.steps
        parts = np.cumsum([len(entry.parts) for entry in kept.entries])
        entry = np.searchsorted(parts, np.array(steps.runs), "right")
        entry = np.minimum(entry, len(kept.entries) - 1)
        roots: dict[int, tuple[int, ...]] = {}
        seconds: dict[int, float] = {}
        reads: dict[int, list[int]] = {}
        for index, step in enumerate(steps.steps):
            if not isinstance(step, Kernel):
                continue
            segment = int(self.at[entry[index]])
            for buffer in (*step.reads, *step.makes):
                reads.setdefault(steps.values[buffer], []).append(segment)
            for buffer in step.makes:
                v = steps.values[buffer]
                roots.setdefault(v, tuple(steps.values[b] for b in step.reads))
                seconds.setdefault(v, float(kept.timeline.seconds_of[index]))
        return roots, seconds, reads

    def _gaps(self, v: int) -> list[tuple[int, int]]:
        """Return the pairs of uses with a segment between them."""
        points = sorted(set(self.reads.get(v, ())))
        return [(a, b) for a, b in itertools.pairwise(points) if b - a >= 2]

    def _span(self, v: int) -> Presence | None:
        """Return where a value is made, and its gaps, if the backward pass reads it."""
        points, gaps = self.reads.get(v, ()), self._gaps(v)
        if not gaps or max(points) <= self.forward_end:
            return None
        return min(points), gaps, True

    def _unneeded(self, spans: dict[int, Presence]) -> dict[int, Presence]:
        """Return candidates that only recomputations read. The first ends their gap."""
        found: dict[int, Presence] = {}
        dependents: dict[int, list[int]] = {}
        for v in self.candidates.forward:
            for root in self.roots.get(v, ()):
                dependents.setdefault(root, []).append(v)
        for v in reversed(self.candidates.forward):
            points = self.reads.get(v)
            if v in spans or not points or max(points) > self.forward_end:
                continue
            known = spans | found
            ends = [
                end
                for d in dependents.get(v, ())
                if d in known and (end := self._main(d, known[d][1])[1]) > max(points)
            ]
            if ends and min(ends) - max(points) >= 2:
                gaps = [*self._gaps(v), (max(points), min(ends))]
                found[v] = (min(points), gaps, False)
        return dict(reversed(found.items()))


def actions_of(
    candidates: Candidates,
    values: tuple[int, ...],
    leaves: np.ndarray,
    recomputations: np.ndarray,
    stays: np.ndarray,
    is_needed: list[bool],
) -> list[Action]:
    """Round a solution of the model to actions."""
    actions = list(candidates.fixed)
    for i, v in enumerate(values):
        shares = {
            Action.OFFLOAD: leaves[i],
            Action.RECOMPUTE: recomputations[i],
            Action.KEEP: 1 - leaves[i] - recomputations[i]
            if is_needed[i]
            else stays[i],
        }
        if not is_needed[i] and max(shares.values()) < 0.5:
            actions[v] = Action.RECOMPUTE
        else:
            actions[v] = max(shares, key=lambda action: shares[action])
    return actions
