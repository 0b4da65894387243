"""The largest volume, and the most volumes, that a card takes: by method, by search.

A step's bytes are nearly linear in voxels, so sizes are estimated from those measured
already, and then measured themselves: the search of a method and a card ends when one
size was seen to fit and the next one not to. Every size is a case like any other, of
the papers' network in float32, and its row can be used for any card.
"""

import math
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import harness, runner
from benchmarks.case import Case, card_bytes, key_of
from benchmarks.methods import METHODS

CARDS = ("16GB", "24GB", "8GB", "40GB", "80GB")
SEARCHED = (
    "plain",
    "jaxswap",
    "Imai2018",
    "checkpoint each block",
    "JAX offload whole",
)
DIVISOR = 16
"""Sides are multiples of it: the network halves them four times."""
BATCH_SIDE = 128
"""Side of the volumes of which a batch is made: the papers' patches."""
KINDS = ("side", "batch")
FIRST = {"side": 9, "batch": 2}
"""Sizes to begin with: 144 voxels a side, two volumes."""
GAIN = 4
"""How much smaller plans are taken to be than plain until one was made."""
MOST_SIZE = 512
"""Larger ones, in steps of 16 voxels or of one volume, are not looked for."""
MOST_MEASUREMENTS = 24
"""Of one method, on all cards together where its plan does not depend on the card; the
search of a method that jumps is given up."""


@dataclass(frozen=True)
class Question:
    """What is asked: the most of `kind` that a card takes by one method."""

    kind: str
    method: str
    card: str
    backend: str
    target: str

    def case(self, size: int) -> Case:
        """The measurement of one size, in steps of 16 voxels or of one volume."""
        if self.kind == "side":
            workload = f"unet3d-{DIVISOR * size}-fp32"
        else:
            workload = f"unet3d-{BATCH_SIDE}-fp32-batch{size}"
        budget = self.card if METHODS[self.method].needs_budget else ""
        card = self.card if self.backend == "device" else ""
        return Case(
            "papers", workload, self.method, budget, self.backend, self.target, card
        )

    def voxels(self, size: float) -> float:
        """Voxels of a step of some size."""
        if self.kind == "side":
            return (DIVISOR * size) ** 3
        return BATCH_SIDE**3 * size

    def size_of(self, voxels: float) -> int:
        """The largest size that has no more than so many voxels."""
        if self.kind == "side":
            return math.floor(voxels ** (1 / 3) / DIVISOR + 1e-9)
        return math.floor(voxels / BATCH_SIDE**3)


@dataclass(frozen=True)
class Known:
    """What rows say on a question.

    Attributes:
        fits: Size -> whether it fits; `None` where a measurement was given up.
        needs: Size -> bytes that a step needs, where they do not depend on the card.
    """

    fits: dict[int, bool | None]
    needs: dict[int, int]

    @property
    def low(self) -> int:
        """The largest size that fits; 0 if none was seen to."""
        return max((size for size, fits in self.fits.items() if fits), default=0)

    @property
    def high(self) -> int | None:
        """The smallest size that does not fit."""
        return min((s for s, f in self.fits.items() if f is False), default=None)

    @property
    def is_settled(self) -> bool:
        """Whether one size fits and the next one does not."""
        return self.high == self.low + 1


def questions(backend: str, target: str) -> Iterator[Question]:
    """All questions, the most valuable first."""
    for card in CARDS:
        for kind in KINDS:
            for method in SEARCHED:
                yield Question(kind, method, card, backend, target)


def known(question: Question, rows: Sequence[dict[str, Any]]) -> Known:
    """Read what is known already."""
    limit, by_key = card_bytes(question.card), {key_of(row): row for row in rows}
    fits: dict[int, bool | None] = {}
    needs: dict[int, int] = {}
    for size in range(1, MOST_SIZE):
        row = by_key.get(question.case(size).key)
        if row is None:
            continue
        fits[size] = fits_card(row, limit)
        if METHODS[question.method].needs_budget:
            if "smallest_bytes" in row:
                needs[size] = row["smallest_bytes"]
        elif "device_bytes" in row:
            needs[size] = row["device_bytes"]
    return Known(fits, needs)


def fits_card(row: dict[str, Any], limit_bytes: int) -> bool | None:
    """Whether a row's step fits a card; `None` if its measurement was given up."""
    if "timeout_seconds" in row:
        return None
    if "error" in row:
        return False
    if row["backend"] == "device":
        return "median_seconds" in row
    return row["device_bytes"] <= limit_bytes


def next_size(question: Question, rows: Sequence[dict[str, Any]]) -> int | None:
    """What to measure next; `None` if there is nothing left to find out."""
    found = known(question, rows)
    is_given_up = None in found.fits.values() or len(found.fits) >= MOST_MEASUREMENTS
    if found.is_settled or is_given_up:
        return None
    size = min(_estimate(question, found, rows), MOST_SIZE - 1)
    if size <= found.low:
        size = found.low + 1
    if found.high is not None and size >= found.high:
        size = found.high - 1
    return None if size in found.fits or size < 1 else size


def _estimate(question: Question, found: Known, rows: Sequence[dict[str, Any]]) -> int:
    limit = card_bytes(question.card)
    needs = {question.voxels(size): nbytes for size, nbytes in found.needs.items()}
    if METHODS[question.method].needs_budget:
        if needs:
            return question.size_of(limit / max(b / v for v, b in needs.items()))
        if found.fits:
            return question.size_of(1.25 * question.voxels(found.low))
        plain = Question("side", "plain", "16GB", question.backend, question.target)
        of_plain = known(plain, rows).needs
        if not of_plain:
            return FIRST[question.kind]
        size, nbytes = max(of_plain.items())
        return question.size_of(GAIN * limit * plain.voxels(size) / nbytes)
    if not needs:
        return FIRST[question.kind]
    if len(needs) == 1:
        ((voxels, nbytes),) = needs.items()
        return question.size_of(voxels * limit / nbytes)
    nearest = sorted(needs, key=lambda voxels: abs(needs[voxels] - limit))[:2]
    low, high = sorted(nearest)
    slope = (needs[high] - needs[low]) / (high - low)
    if slope <= 0:
        return question.size_of(high * limit / needs[high])
    return question.size_of(max(0.0, high + (limit - needs[high]) / slope))


def search(
    backend: str,
    target: str,
    output: pathlib.Path,
    *,
    until: float | None = None,
    timeout_seconds: float = runner.TIMEOUT_SECONDS,
) -> int:
    """Measure until every question is settled or time is up.

    Returns:
        How many questions are left.
    """
    left = 0
    for question in questions(backend, target):
        while True:
            size = next_size(question, harness.rows_of(output))
            if size is None:
                break
            if runner.run(
                [question.case(size)],
                output,
                until=until,
                timeout_seconds=timeout_seconds,
            ):
                left += 1
                break
    return left
