"""`pin_host_memory`: pay for a plan's host memory before the first step."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from jaxswap._base.units import parse_bytes
from jaxswap._device.resolve import default_device
from jaxswap._plans.plan import Plan


def pin_host_memory(
    amount: Plan | int | str, *, devices: Sequence[Any] | None = None
) -> None:
    """Make XLA's pool of pinned host memory as large as a program will need it.

    The first step of a program that swaps waits while the operating system pins the
    host memory: 1.7 s for 2 GB on the machine of an H200. XLA keeps what was pinned. So
    call this while something else takes time, such as compiling, in a thread.

    Args:
        amount: A plan, or bytes for each device: an integer or text such as `"2GiB"`.
            Of a plan its `host_bytes` are taken.
        devices: The `jax.Device`s of this process that run the program. By default
            JAX's default device.

    Raises:
        ValueError: If `amount` is neither a plan nor readable as bytes.
        RuntimeError: If JAX cannot pin so much. The text is JAX's.

    Example:
        >>> import threading, jaxswap
        >>> pinning = threading.Thread(target=jaxswap.pin_host_memory, args=("1MiB",))
        >>> pinning.start()  # Compile here.
        >>> pinning.join()
    """
    is_plan = isinstance(amount, Plan)
    nbytes = amount.host_bytes if is_plan else parse_bytes(amount, "amount")
    if nbytes == 0:
        return
    # Only read, so the operating system gives it no memory.
    zeros = np.zeros(nbytes, np.uint8)
    # All are held until the last one is pinned: they share one pool.
    pinned = [
        jax.device_put(zeros, SingleDeviceSharding(device, memory_kind="pinned_host"))
        for device in (devices or [default_device()])
    ]
    for array in pinned:
        array.block_until_ready().delete()
