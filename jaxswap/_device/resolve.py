"""A user's name for a GPU -> `Target`. Without a name, the GPU that JAX uses."""

import os
from typing import Any

import jax

from jaxswap._gpu.saved import load_target, saved_target
from jaxswap._gpu.target import Target, built_in_target, find_device, target_names

HOW_TO_DESCRIBE = (
    "describe it once with `jaxswap.calibrate(like=...)`, where `like` is a "
    "`jaxswap.Target` with its numbers or the name of a GPU of the same kind"
)


def find_target(target: str | os.PathLike[str] | Target | None = None) -> Target:
    """Find a GPU's numbers by its name.

    `jaxswap.plan`, `inspect`, `pareto`, `calibrate` and the commands use this function
    for their `target`. For machines with several GPUs see `jaxswap.find_node`.

    Args:
        target: The name of a GPU, in any case and with or without separators
            (`"A100_80"`, `"a10080"`). Targets that `jaxswap.calibrate` saved are looked
            up first, then the built-in GPUs. Or the path of a saved target, which ends
            in `.json`. Or a `jaxswap.Target`, which is returned unchanged. Or `None`,
            which means JAX's default device.

    Returns:
        The GPU's numbers.

    Raises:
        ValueError: If no GPU has that name, if the file holds no saved target, or if
            the default device is no GPU or an unknown one.
        OSError: If a file cannot be read.

    Example:
        >>> import jaxswap
        >>> jaxswap.find_target("H100").core_count
        132
    """
    if isinstance(target, Target):
        return target
    if target is None:
        return _target_of(default_device())
    if isinstance(target, os.PathLike) or str(target).endswith(".json"):
        return load_target(target)
    saved = saved_target(target) if isinstance(target, str) else None
    return built_in_target(target) if saved is None else saved


def default_device() -> Any:
    """Return the device that JAX puts new arrays on.

    Returns:
        The `jax.Device` that `jax.default_device` names. If it names none, the first
        device of this process.
    """
    chosen: Any = getattr(jax.config, "jax_default_device", None)
    if chosen is None:
        return jax.local_devices()[0]
    if isinstance(chosen, str):
        return jax.local_devices(backend=chosen)[0]
    return chosen


def describe_device(device: Any) -> str:
    """Write a device's name and platform."""
    return f"`{device}` ({device.platform})"


def _target_of(device: Any) -> Target:
    if device.platform != "gpu":
        raise ValueError(
            "`target` is None and there is no GPU here, only "
            f"{describe_device(device)}: name the GPU to plan for, such as "
            f"target='h100' ({', '.join(target_names())})."
        )
    found = saved_target(device.device_kind) or find_device(device.device_kind)
    if found is None:
        raise ValueError(
            f"`target` is None and the GPU here, {device.device_kind!r}, is not known: "
            f"{HOW_TO_DESCRIBE}."
        )
    return found


def free_bytes(device: Any) -> int:
    """Memory that JAX may still take; where it does not tell, little is assumed."""
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return 2 * 2**30
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
