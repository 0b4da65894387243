"""What a step works on: whole volumes or patches, and how many, for a device's memory.

The network sees as much of the body at once as the device's memory allows. Whole
volumes come first, with everything swapped or recomputed that must be. Patches are
taken only where a single whole volume does not fit even so. Candidates are simulated,
the largest first. Only one whose simulation fits is compiled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import jaxswap
from jaxswap.medical.data.grid import Shape
from jaxswap.medical.runs.run_config import RunConfig

_NNUNET_VOXELS = 2 * 128**3  # In a step of nnU-Net with its usual batch and patch.
_SHARE_OF_DATA = 0.05  # Of all training voxels, in one step of nnU-Net at most.

T = TypeVar("T")


@dataclass(frozen=True)
class Data:
    """What the choice depends on besides the settings.

    Attributes:
        shape: Voxels of a whole volume in the network.
        cases: Training cases.
        multiple: Each side that the network sees must be divisible by this.
        parts: The batch must be divisible by this.
    """

    shape: Shape
    cases: int
    multiple: int
    parts: int = 1


@dataclass(frozen=True)
class Choice:
    """Settings with a batch and, where needed, a patch.

    Attributes:
        config: The settings.
        why: One sentence for the shape and one for the batch.
    """

    config: RunConfig
    why: tuple[str, ...]


def is_choice_left(config: RunConfig) -> bool:
    """Whether batch or patch are to be chosen for the device's memory."""
    is_budgeted = config.offload and config.device_memory is not None
    is_whole = config.patch is None and config.shape is None
    return is_budgeted and (config.batch is None or is_whole)


def choose(
    config: RunConfig, data: Data, try_out: Callable[[RunConfig], T]
) -> tuple[T, Choice]:
    """Find the largest candidate that fits, and make something of it.

    Args:
        config: The settings of the run.
        data: What the data set is like.
        try_out: Makes something of settings whose batch is given, such as a planned
            run. It raises `jaxswap.BudgetError` if they do not fit.

    Returns:
        What `try_out` made, and the choice that it was made of.

    Raises:
        jaxswap.BudgetError: If no candidate fits, and batch alone was to be chosen.
        ValueError: If not even the smallest patch fits.
    """
    refused: list[tuple[RunConfig, jaxswap.BudgetError]] = []
    most_voxels = float("inf")
    for candidate in candidates(config, data):
        voxels = _voxels(candidate, data)
        # One whole volume is tried in any case, to say what it would need.
        is_one_volume = candidate.patch is None and candidate.batch == data.parts
        if voxels > most_voxels and not is_one_volume:
            continue
        try:
            made = try_out(candidate)
        except jaxswap.BudgetError as error:
            refused.append((candidate, error))
            # Memory falls a little less than voxels do, so nothing that fits is missed.
            share = error.budget_bytes / error.smallest_bytes
            most_voxels = min(voxels * share, voxels - 1)
            continue
        return made, Choice(candidate, _reasons(config, candidate, data, refused))
    error = refused[-1][1]
    *_, least = candidates(config, data)
    if least.patch == config.patch:
        raise error
    raise ValueError(f"not even one patch of {least.patch}³ voxels fits: {error}")


def candidates(config: RunConfig, data: Data) -> Iterator[RunConfig]:
    """List settings to try, the best first: whole volumes, then ever smaller patches.

    Args:
        config: The settings, with or without batch, patch and shape.
        data: What the data set is like.

    Yields:
        Settings with a batch. A larger batch than is needed is not worth slabs, which
        are slow.
    """
    yield from _with_batch(config, data)
    if config.patch is not None or config.shape is not None:
        return
    # A cube beyond the middle side would be padded along two axes.
    middle = sorted(data.shape)[1]
    for side in range(middle - middle % data.multiple, 7, -data.multiple):
        if side**3 < prod(data.shape):
            patches = dataclasses.replace(config, patch=side)
            yield from _with_batch(patches, data)


def _with_batch(config: RunConfig, data: Data) -> Iterator[RunConfig]:
    for batch in _batches(config, data):
        is_least = batch == data.parts or config.batch is not None
        slabs = "none" if config.slabs == "auto" and not is_least else config.slabs
        yield dataclasses.replace(config, batch=batch, slabs=slabs)


def _batches(config: RunConfig, data: Data) -> Iterator[int]:
    """List batches, the largest first: halves of the most that a step should see."""
    if config.batch is not None:
        yield config.batch
        return
    most = min(_NNUNET_VOXELS, _SHARE_OF_DATA * data.cases * prod(data.shape))
    batch = int(most / prod(_seen(config, data))) // data.parts * data.parts
    while batch > data.parts:
        yield batch
        batch = batch // 2 // data.parts * data.parts
    yield data.parts


def _reasons(
    config: RunConfig,
    chosen: RunConfig,
    data: Data,
    refused: list[tuple[RunConfig, jaxswap.BudgetError]],
) -> tuple[str, ...]:
    sides = " x ".join(map(str, data.shape))
    budget = chosen.device_memory
    if chosen.patch is None:
        shape = (
            f"Whole volumes of {sides} voxels, because a step on them fits {budget}."
        )
    elif config.patch is not None:
        shape = f"Patches of {chosen.patch}³ voxels, as asked for."
    else:
        whole, error = [pair for pair in refused if pair[0].patch is None][-1]
        needed = f"{error.smallest_bytes / 2**20:,.0f} MiB"
        one = whole.batch_size == 1
        volumes = "one whole volume" if one else f"{whole.batch} whole volumes"
        shape = (
            f"Patches of {chosen.patch}³ voxels, the largest that fit {budget}: a step "
            f"on {volumes} of {sides} voxels needs {needed}, even if all is swapped or "
            "recomputed that can be."
        )
    if config.batch is not None:
        return (shape,)
    most = f"a step sees at most {_NNUNET_VOXELS / 1e6:.1f} million voxels"
    if any(tried.patch == chosen.patch for tried, _ in refused):
        batch = f"a larger one does not fit {budget}"
    elif _SHARE_OF_DATA * data.cases * prod(data.shape) < _NNUNET_VOXELS:
        batch = "a step sees at most 5 % of the training voxels, as in nnU-Net"
    else:
        batch = f"{most}, as in nnU-Net's usual two patches of 128³"
    return shape, f"Batch {chosen.batch}, because {batch}."


def _voxels(config: RunConfig, data: Data) -> int:
    return config.batch_size * prod(_seen(config, data))


def _seen(config: RunConfig, data: Data) -> Shape:
    patch = config.patch
    return data.shape if patch is None else (patch, patch, patch)
