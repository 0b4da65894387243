"""Actions -> a `Sketch`: what their draft takes, without the draft.

The readable simulation is `_simulate`. This one does the same in C, for searches that
look at thousands of drafts. Without a C compiler it asks the readable one. Both give
equal numbers, to the last bit.
"""

import ctypes
import dataclasses
import weakref
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from jaxswap._graph.graph import Action
from jaxswap._schedule.decision import Decision
from jaxswap._schedule.issue import leaving_values
from jaxswap._simulate.draft import Arranger, Draft, device_bytes_at
from jaxswap._simulate.kernels import Kernel
from jaxswap._sketch.library import library
from jaxswap._sketch.program import (
    ACTIONS,
    CODES,
    PolicyTiming,
    Staleness,
    program_of,
)
from jaxswap._sketch.result import Result

NO_LIMIT = 2**62
"""A limit of memory that forbids nothing."""
CROWDING = 32
"""See `Sketch.crowd`. The power is a power of two."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """What a draft takes.

    Attributes:
        device_bytes: Peak of device memory.
        host_bytes: Peak of pinned host memory.
        fragmented_bytes: What XLA leaves free between buffers. See `_simulate.gaps`.
        seconds: The whole step.
        crowd: How many points of the step need about as much device memory as the
            peak: the sum of their shares of it, to the power of `CROWDING`.
        is_alive: Whether each value holds memory at the peak.
        cost_seconds: Of each value, the seconds of its recomputations and of the
            stalls of what reads it.
    """

    device_bytes: int
    host_bytes: int
    fragmented_bytes: int
    seconds: float
    crowd: float
    is_alive: np.ndarray
    cost_seconds: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """The entries of a draft.

    Attributes:
        equations: The main equation of each.
        is_recomputed: Whether this is one of the forward pass, in the backward pass.
        device_bytes: The most device memory at each.
    """

    equations: np.ndarray
    is_recomputed: np.ndarray
    device_bytes: np.ndarray


def entries_of(draft: Draft) -> Entries:
    """Return the entries of a draft."""
    main = [entry.parts[-1] for entry in draft.entries]
    return Entries(
        np.array([equation for equation, _ in main]),
        np.array([is_recomputed for _, is_recomputed in main]),
        device_bytes_at(draft.entries, draft.timeline),
    )


class Sketcher:
    """Lays out and simulates actions, as `Arranger.arrange` does.

    Args:
        arranger: Says how.
        expects_gaps: Whether to find out how much memory XLA leaves free between
            buffers. If not, this counts as 0, and sketches take less time.

    Attributes:
        count: How many sketches were made so far.
        expects_gaps: As it was given.
    """

    def __init__(self, arranger: Arranger, *, expects_gaps: bool = True) -> None:
        self.count = 0
        self._arranger = arranger
        self.expects_gaps = expects_gaps
        self._result = Result()
        self._draft: Draft | None = None  # The last one, without a compiler.
        self._last_leaving: tuple[tuple[bytes, bool, int], np.ndarray] | None = None
        self._library = library()
        if self._library is not None:
            self._program = program_of(arranger, expects_gaps=expects_gaps)
            equations = arranger.graph.equations
            self._is_backward = np.array([eqn.is_backward for eqn in equations])
            opened = self._library.jaxswap_open
            opened.restype = ctypes.c_void_p
            self._space = ctypes.c_void_p(opened(ctypes.byref(self._program)))
            if not self._space:
                raise MemoryError("no memory to lay out drafts in.")
            weakref.finalize(self, self._library.jaxswap_close, self._space)

    def sketch(
        self,
        actions: np.ndarray,
        limit_bytes: int,
        *,
        patience: float = 1.0,
        eager: Collection[int] = (),
        hold_for: int = 0,
        in_place: bool = True,
    ) -> Sketch:
        """Lay out the copies that actions ask for below a limit of device memory.

        Args:
            actions: The number of each value's action, as `codes` returns them.
            limit_bytes: Device memory that may be used.
            patience: How willingly short gaps are spent on the host.
            eager: Values whose copies back must be done early.
            hold_for: How long recomputed values are held. See `backward_entries`.
            in_place: Whether results may be written in place. See `_simulate.in_place`.
        """
        self.count += 1
        if self._library is None:
            draft = self._arranger.arrange(
                actions_of_codes(actions),
                limit_bytes,
                patience=patience,
                eager=eager,
                hold_for=hold_for,
                in_place=in_place,
            )
            self._draft = draft
            return sketch_of(draft, expects_gaps=self.expects_gaps)
        flags = None
        if eager:
            flags = np.zeros(self._program.values, np.int8)
            flags[list(eager)] = 1
        return self._call(
            self._library.jaxswap_arrange,
            _pointer(actions),
            self._staleness(*self._arranger.staleness, hold_for),
            ctypes.c_int64(limit_bytes),
            ctypes.c_int(in_place),
            ctypes.c_double(patience),
            _pointer(flags),
        )

    def draft(
        self, actions: np.ndarray, limit_bytes: int, *, hold_for: int, **options: Any
    ) -> Draft:
        """Return the draft of a sketch, for the same arguments as `sketch`.

        It is laid out once. `Arranger.arrange` would do so twice or thrice, to find out
        when copies run and what is written in place. A sketch knows that.
        """
        self.sketch(actions, limit_bytes, hold_for=hold_for, **options)
        if self._draft is not None:
            return self._draft
        chosen = actions_of_codes(actions)
        return self._arranger.draft(
            chosen,
            self._result.copies(self._arranger.order(chosen, hold_for)),
            hold_for=hold_for,
            in_place_bytes=self._result.in_place and self._arranger.in_place_bytes,
        )

    def follow(self, decision: Decision) -> Sketch:
        """Lay out what a policy decided, by its own distances."""
        self.count += 1
        if self._library is None:
            self._draft = self._arranger.follow(decision)
            return sketch_of(self._draft, expects_gaps=self.expects_gaps)
        numbers, timing = codes(decision.actions), decision.timing
        values = self._leaving(decision, numbers)
        return self._call(
            self._library.jaxswap_follow,
            _pointer(numbers),
            self._staleness(*timing.staleness, 0),
            _pointer(values),
            ctypes.c_int(len(values)),
            ctypes.byref(PolicyTiming.of(timing)),
        )

    def _leaving(self, decision: Decision, numbers: np.ndarray) -> np.ndarray:
        """Return what may leave. Policies try many options for the same values."""
        timing = decision.timing
        key = numbers.tobytes(), timing.swap_cotangents, timing.min_bytes
        if self._last_leaving is None or self._last_leaving[0] != key:
            found = leaving_values(self._arranger.graph, decision.actions, timing)
            self._last_leaving = key, np.array(found, np.int32)
        return self._last_leaving[1]

    def _staleness(self, stale_after: int, large_bytes: int, hold_for: int) -> Any:
        return ctypes.byref(Staleness(stale_after, hold_for, large_bytes))

    def _call(self, function: Any, *given: Any) -> Sketch:
        """Call a function in C that lays out a draft."""
        count, found = self._program.values, self._result
        is_alive, cost = np.empty(count, np.int8), np.empty(count)
        vectors = (_pointer(is_alive), _pointer(cost))
        if function(self._space, *given, ctypes.byref(found), *vectors):
            raise MemoryError("no memory to lay out a draft in.")
        return Sketch(
            device_bytes=found.device_bytes,
            host_bytes=found.host_bytes,
            fragmented_bytes=found.fragmented_bytes,
            seconds=found.seconds,
            crowd=found.crowd,
            is_alive=is_alive,
            cost_seconds=cost,
        )

    def last_bytes_at(self) -> np.ndarray:
        """Return the device memory at each step of the last sketch that C made."""
        return np.ctypeslib.as_array(self._result.bytes_at, (self._result.steps,))

    def last_entries(self) -> Entries:
        """Return the entries of the last sketch."""
        if self._draft is not None:
            return entries_of(self._draft)
        found, count = self._result, (self._result.entries,)
        template = np.ctypeslib.as_array(found.template_of, count)
        equations = template % self._program.equations
        is_behind = template >= self._program.equations
        is_recomputed = is_behind & ~self._is_backward[equations]
        nbytes = np.ctypeslib.as_array(found.entry_bytes, count).copy()
        return Entries(equations, is_recomputed, nbytes)


def codes(actions: Sequence[Action]) -> np.ndarray:
    """Return the number of each action."""
    return np.fromiter(map(CODES.__getitem__, actions), np.int8, len(actions))


def actions_of_codes(numbers: np.ndarray) -> tuple[Action, ...]:
    """Return the actions of numbers."""
    return tuple([ACTIONS[number] for number in numbers.tolist()])


def sketch_of(draft: Draft, *, expects_gaps: bool = True) -> Sketch:
    """Return what a draft takes, with or without the gaps between buffers."""
    timeline = draft.timeline
    count = len(draft.graph.values)
    cost = np.zeros(count)
    values = timeline.steps.values
    steps = zip(timeline.steps.steps, timeline.seconds_of, timeline.stalls, strict=True)
    for step, seconds, stall in steps:
        if isinstance(step, Kernel):
            for b in step.reads if stall else ():
                cost[values[b]] += stall
            for b in step.makes if step.is_recomputed else ():
                cost[values[b]] += seconds
    is_alive = np.zeros(count, np.int8)
    at = int(timeline.device_bytes_at.argmax()) if len(timeline.starts) else 0
    is_alive[[values[b] for b in timeline.alive(at)]] = 1
    return Sketch(
        device_bytes=timeline.device_bytes,
        host_bytes=timeline.host_bytes,
        fragmented_bytes=draft.fragmented_bytes if expects_gaps else 0,
        seconds=timeline.seconds,
        crowd=_crowd(timeline.device_bytes_at, timeline.device_bytes),
        is_alive=is_alive,
        cost_seconds=cost,
    )


def _crowd(device_bytes_at: np.ndarray, peak_bytes: int) -> float:
    """Count the points whose memory is near the peak, in the order in which C does."""
    shares = device_bytes_at / max(1, peak_bytes)
    for _ in range(CROWDING.bit_length() - 1):
        shares = shares * shares
    return float(np.cumsum(shares)[-1]) if len(shares) else 0.0


def _pointer(vector: Any) -> Any:
    return None if vector is None else vector.ctypes.data_as(ctypes.c_void_p)
