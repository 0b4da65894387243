"""Batches for training, read ahead in the background by grain.

Batch `n` depends only on the seed and on `n`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import grain
import numpy as np
from absl import flags

from jaxswap.medical.data.grid import Shape
from jaxswap.medical.preparing.patches import (
    Foreground,
    Part,
    choose_case,
    choose_start,
    cut,
    find_foreground,
    wants_foreground,
)
from jaxswap.medical.preparing.preparing import Prepared
from jaxswap.medical.preparing.stored_array import (
    StoredArray,
    open_array,
    store_reference,
)

_ENDLESS = 2**40  # Batches. No run gets there.
_THREADS = 2


class Batch(NamedTuple):
    """The input of one training step.

    Attributes:
        image: Normalized intensities, (batch, x, y, z, channel), or a part. They have
            the number format of the prepared cases, so that few bytes are copied.
        labels: Values of the data set's label map, uint8, (batch, x, y, z), or a part.
    """

    image: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class _Example:
    """A case in the form from which examples are made."""

    name: str
    image: np.ndarray | StoredArray
    labels: np.ndarray | StoredArray
    shape: Shape
    foreground: Foreground | None


@dataclass(frozen=True, eq=False)
class _Batches:
    """All batches of a run from one step on, by number."""

    cases: tuple[_Example, ...]
    batch: int
    seed: int
    start_step: int
    patch: Shape | None
    foreground_share: float
    part: Part | None

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> Batch:
        first = (self.start_step + int(index)) * self.batch
        seen = self.patch or self.cases[0].shape
        start, end = 0, self.batch
        if self.part is not None:
            start, end = self.part.cases
            _, seen = self.part.of((0, 0, 0), seen)
        shape = (end - start, *seen)
        first_image = open_array(self.cases[0].image)
        # Filled in place, because whole volumes are large and each copy takes time.
        images = np.empty((*shape, first_image.shape[3]), first_image.dtype)
        labels = np.empty(shape, np.uint8)
        for offset in range(start, end):
            found = self._example(first + offset)
            images[offset - start], labels[offset - start] = found
        return Batch(images, labels)

    def _example(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        case = self.cases[choose_case(number, len(self.cases), self.seed)]
        image, labels = open_array(case.image), open_array(case.labels)
        if image.shape[:3] != labels.shape:
            raise ValueError(
                f"{case.name}: its image has {image.shape[:3]} voxels, its labels have "
                f"{labels.shape}; prepare it again."
            )
        start, shape = (0, 0, 0), case.shape
        if self.patch is not None:
            is_wanted = wants_foreground(number, self.foreground_share)
            foreground = case.foreground if is_wanted else None
            shape = self.patch
            start = choose_start(number, case.shape, shape, self.seed, foreground)
        elif self.part is None:
            return image, labels
        if self.part is not None:
            start, shape = self.part.of(start, shape)
        return cut(image, start, shape), cut(labels, start, shape)


def batches(
    cases: Sequence[Prepared],
    batch: int,
    *,
    seed: int = 0,
    start_step: int = 0,
    patch: Shape | None = None,
    foreground_share: float = 0.33,
    foreground_weights: Mapping[int, float] | None = None,
    workers: int = 0,
    ahead: int = 2,
    part: Part | None = None,
) -> Generator[Batch, None, None]:
    """Yield batches without end, while the next ones are made in the background.

    Each case comes once before any comes again. The order changes every round.

    Args:
        cases: Prepared cases with labels. Those of `prepared_cache` stay on disk until
            they are needed.
        batch: Examples in each batch.
        seed: Seed of everything that is drawn.
        start_step: Number of the first batch. Batch `n` does not depend on it. So a
            resumed run gets the batches that it would have got.
        patch: Voxels of a patch. None takes whole cases, which must have one shape.
        foreground_share: Share of patches that must contain a label, if their case has
            one.
        foreground_weights: How often such a patch is placed on each label, by its
            value. None places equally many on each label of the case.
        workers: Processes that make batches. 0 makes them in threads. Threads are
            enough, unless making a batch takes longer than a training step.
        ahead: Batches that are kept ready, in each process if there are any.
        part: The part of each batch to read and yield. None for all of it.

    Returns:
        An iterator. When it is closed or left, its threads and processes end.

    Raises:
        ValueError: If an argument does not fit, a case has no labels, or whole cases
            have different shapes or channels.
    """
    _check_numbers(batch, start_step, seed, foreground_share, workers, ahead)
    _check_cases(cases, patch)
    source = _Batches(
        cases=tuple(
            _example_of(case, patch is not None, foreground_weights) for case in cases
        ),
        batch=batch,
        seed=seed,
        start_step=start_step,
        patch=patch,
        foreground_share=foreground_share,
        part=part,
    )
    return _iterate(source, workers, ahead)


def _iterate(
    source: _Batches, workers: int, ahead: int
) -> Generator[Batch, None, None]:
    read = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=ahead)
    dataset = grain.MapDataset.source(source).to_iter_dataset(read)
    if workers:
        _settle_flags()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=ahead
            )
        )
    iterator = iter(dataset)
    try:
        yield from iterator
    finally:
        iterator.close()


def _settle_flags() -> None:
    """Let grain read its own command-line flags, which no other code parses.

    Otherwise grain 0.2.18 fails when a process starts (google/grain#1355).
    """
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _example_of(
    case: Prepared, needs_foreground: bool, weights: Mapping[int, float] | None
) -> _Example:
    assert case.labels is not None
    x, y, z = case.labels.shape
    return _Example(
        name=case.name,
        image=store_reference(case.image),
        labels=store_reference(case.labels),
        shape=(x, y, z),
        foreground=find_foreground(case.labels, weights=weights)
        if needs_foreground
        else None,
    )


def _check_numbers(
    batch: int, start_step: int, seed: int, share: float, workers: int, ahead: int
) -> None:
    lowest = {"batch": 1, "start_step": 0, "seed": 0, "workers": 0, "ahead": 1}
    given = {
        "batch": batch,
        "start_step": start_step,
        "seed": seed,
        "workers": workers,
        "ahead": ahead,
    }
    for name, value in given.items():
        if value < lowest[name]:
            raise ValueError(f"`{name}` is {value}, not {lowest[name]} or more.")
    if not 0 <= share <= 1:
        raise ValueError(f"`foreground_share` is {share}, not in 0..1.")


def _check_cases(cases: Sequence[Prepared], patch: Shape | None) -> None:
    if not cases:
        raise ValueError("`cases` is empty; training needs one or more.")
    for case in cases:
        if case.labels is None:
            raise ValueError(f"{case.name}: has no labels, so it cannot train.")
    channels = {case.image.shape[3] for case in cases}
    if len(channels) > 1:
        raise ValueError(f"`cases` have different numbers of channels: {channels}.")
    if patch is not None:
        if len(patch) != 3 or any(size < 1 for size in patch):
            raise ValueError(f"`patch` is {patch}; it needs three positive numbers.")
        return
    shapes = {case.image.shape[:3]: case.name for case in cases}
    if len(shapes) > 1:
        (a, b), (c, d) = list(shapes.items())[:2]
        raise ValueError(
            f"whole cases need one shape, but {b} has {a} and {d} {c}; prepare them "
            "with `shape`."
        )
