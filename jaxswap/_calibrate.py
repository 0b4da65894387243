"""`calibrate`: the GPU of this machine -> a `Target` with the rates that it sustains.

Published peaks say little about what a GPU, its libraries and its place in the machine
do together, copies to the host above all. Measured once, they are found again by name
and by the name that the driver reports.
"""

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxswap._device.measure import measure_rates
from jaxswap._device.operations import measured_target
from jaxswap._device.resolve import (
    HOW_TO_DESCRIBE,
    default_device,
    describe_device,
    find_target,
    free_bytes,
)
from jaxswap._device.samples import sizes_for
from jaxswap._device.stopwatch import Stopwatch
from jaxswap._gpu.saved import save_target, saved_target, targets_folder
from jaxswap._gpu.target import Target, find_device
from jaxswap._run.loss import loss_source
from jaxswap._search.ways import keep_all


def calibrate(
    fn: Callable[..., Any] | None = None,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    device: Any = None,
    like: str | Target | None = None,
    quick: bool = False,
    save: bool = True,
    progress: Callable[[str], None] | None = None,
    **kwargs: Any,
) -> Target:
    """Measure what a GPU of this machine sustains.

    Matrix products and convolutions in three precisions, device memory, the cost of a
    kernel, and copies to and from pinned host memory, alone and both ways at once.
    Takes a minute or two; nothing else should run on the GPU meanwhile.

    Args:
        fn: A loss, as `jaxswap.plan` takes it. Each heavy operation of it and of its
            gradient is timed by itself too, in the shapes, types and layout that it has
            there. Plans for this GPU use these times wherever the operations recur.
        *args: Arguments of `fn`: arrays, `jax.ShapeDtypeStruct` or pytrees of them.
        argnums: Which arguments of `fn` are differentiated.
        has_aux: Whether `fn` returns a pair of the loss and something else.
        device: A `jax.Device`; by default JAX's default device.
        like: The GPU whose other numbers (memory, multiprocessors, clock) are right for
            this one, as `jaxswap.find_target` finds it. Needed for a GPU that is
            neither built in nor saved.
        quick: Measure with smaller programs and fewer repeats.
        save: Write the result to the user's folder (`$JAXSWAP_HOME/targets`, else
            `$XDG_CONFIG_HOME/jaxswap/targets`, else `~/.config/jaxswap/targets`), where
            it is found by `target=None` and by its name in later runs.
        progress: Is told each result, one line of text each.
        **kwargs: Further arguments of `fn`.

    Returns:
        The GPU with measured `rates`.

    Raises:
        RuntimeError: If the device is no GPU.
        ValueError: If the GPU is unknown and `like` is not given, if `like` is not a
            known name, if too little of the GPU's memory is free, or if arguments of
            `fn` are given without `fn`.
        OSError: If the result cannot be saved. The folder is made before measuring.

    Example:
        >>> import jax, jaxswap
        >>> if jax.default_backend() == "gpu":
        ...     mine = jaxswap.calibrate(quick=True)
        ...     both_ways = mine.rates.swap_out_both_ways_share
    """
    if fn is None and (args or kwargs or argnums != 0 or has_aux):
        raise ValueError(
            "`argnums`, `has_aux` and arguments of `fn` are given, but no `fn`. Give "
            "the loss first: jaxswap.calibrate(loss, *args)."
        )
    device = default_device() if device is None else device
    if device.platform != "gpu":
        raise RuntimeError(
            f"calibrate needs a GPU, and the device is {describe_device(device)}. On a "
            "machine without one, name the GPU that you mean, such as "
            "target='h100': its published numbers are used."
        )
    base = _like_device(device.device_kind, like)
    if save:
        targets_folder().mkdir(parents=True, exist_ok=True)
    rates = measure_rates(
        device,
        base.core_count,
        sizes_for(free_bytes(device), is_quick=quick),
        Stopwatch(repeats=3 if quick else 7),
        progress=progress,
        source=f"measured on {device.device_kind}, {datetime.date.today()}, "
        f"JAX {jax.__version__}",
    )
    target = dataclasses.replace(base, rates=rates)
    if fn is not None:
        source = loss_source(fn, args, kwargs, argnums, has_aux)
        eqns = source.traced(keep_all).program.eqns
        with jax.default_device(device):
            target = measured_target(
                target, eqns, free_bytes(device), progress=progress
            )
    if save:
        path = save_target(target)
        if progress is not None:
            progress(f"saved as {target.name} in {path}")
    return target


def _like_device(device_kind: str, like: str | Target | None) -> Target:
    """The target to put the rates in."""
    if isinstance(like, Target):
        return dataclasses.replace(like, device_name=device_kind)
    if like is not None:
        known = find_target(like)
        is_same = known.device_name == device_kind
        return dataclasses.replace(
            known,
            name=known.name if is_same else device_kind,
            device_name=device_kind,
        )
    known = find_device(device_kind) or saved_target(device_kind)
    if known is None:
        raise ValueError(f"{device_kind!r} is not a known GPU: {HOW_TO_DESCRIBE}.")
    return known
