"""How much pinned host memory there is, and whether a plan fits into it.

Works on numbers alone, without JAX.

XLA takes pinned host memory from one pool for all GPUs of a process. The pool grows on
demand up to a limit in GiB, which the environment variable
`XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB` sets (default 64). XLA multiplies it by 2**30
(`GetGpuHostAllocator` in openxla/xla, `xla/pjrt/gpu/gpu_helpers.cc`). It reads the
variable when JAX first uses the GPU.
"""

import math
import os
from pathlib import Path

from jaxswap._base.errors import HostMemoryError
from jaxswap._base.units import format_bytes

POOL_VARIABLE = "XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB"

_GIB = 2**30
_DEFAULT_POOL_GIB = 64

# Buffers do not fill the pool without gaps, so it must be larger. An estimate.
_POOL_SLACK = 1.125


def check_host_memory(
    needed_bytes: int,
    *,
    limit_bytes: int | None = None,
    is_local: bool = True,
    device_count: int = 1,
) -> None:
    """Check that a plan fits into pinned host memory.

    Args:
        needed_bytes: The most that the plan holds there at once, for each GPU.
        limit_bytes: What the user allows each GPU; None: as much as there is.
        is_local: Whether the plan is for this machine. If not, only `limit_bytes`
            is checked.
        device_count: GPUs of this process that follow the plan. They share the memory.

    Raises:
        HostMemoryError: If the plan needs more than `limit_bytes`, more than this
            machine's free memory, or more than XLA's pool. The text says which limit it
            is and what to do.
        ValueError: If the pool's environment variable cannot be read.

    Example:
        >>> check_host_memory(2**30, limit_bytes=2**31, is_local=False)
        >>> check_host_memory(2**32, limit_bytes=2**31, is_local=False)
        Traceback (most recent call last):
        ...
        jaxswap._base.errors.HostMemoryError: the plan needs 4.00 GiB of pinned ...
    """
    plan = f"the plan needs {format_bytes(needed_bytes)} of pinned host memory and"
    less = "let more be recomputed or kept on the device"
    if limit_bytes is not None and needed_bytes > limit_bytes:
        raise HostMemoryError(
            f"{plan} the host budget is {format_bytes(limit_bytes)}: allow more, "
            f"or {less}."
        )
    if not is_local:
        return
    if device_count > 1:
        each, needed_bytes = needed_bytes, needed_bytes * device_count
        plan = (
            f"the plan needs {format_bytes(needed_bytes)} of pinned host memory "
            f"({format_bytes(each)} for each of {device_count} GPUs) and"
        )
    available = available_ram_bytes()
    if available is not None and needed_bytes > available:
        raise HostMemoryError(
            f"{plan} this machine has {format_bytes(available)} of free memory: use a "
            f"machine with more, or {less}."
        )
    pool = xla_pool_bytes()
    if needed_bytes > pool:
        enough_gib = math.ceil(needed_bytes * _POOL_SLACK / _GIB)
        raise HostMemoryError(
            f"{plan} XLA's pool of it holds {format_bytes(pool)}: set the environment "
            f"variable {POOL_VARIABLE}={enough_gib} before JAX first uses the GPU, "
            f"or {less}."
        )


def xla_pool_bytes() -> int:
    """Return how much pinned host memory XLA allows to all GPUs of a process together.

    Returns:
        The limit in the environment variable `XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB`, or
        XLA's default.

    Raises:
        ValueError: If the variable does not hold a positive whole number. XLA itself
            only logs such a mistake.
    """
    text = os.environ.get(POOL_VARIABLE)
    if text is None:
        return _DEFAULT_POOL_GIB * _GIB
    try:
        gib = int(text)
    except ValueError:
        gib = 0
    if gib <= 0:
        raise ValueError(
            f"the environment variable {POOL_VARIABLE} is {text!r}: give a positive "
            f"whole number of GiB, such as {_DEFAULT_POOL_GIB}, or unset it."
        )
    return gib * _GIB


def available_ram_bytes(
    meminfo: str | os.PathLike[str] = "/proc/meminfo",
    group: str | os.PathLike[str] = "/sys/fs/cgroup",
) -> int | None:
    """Return how much memory of this machine new data can take without paging to disk.

    It is no more than what the container, the batch system or `ulimit -v` leaves to
    this process.

    Args:
        meminfo: Linux's file of memory figures. If it does not exist, the operating
            system is asked for its free pages.
        group: The folder in which Linux tells the limits of a container.

    Returns:
        Bytes, or None if the system does not tell.

    Example:
        >>> from jaxswap.extend import available_ram_bytes
        >>> free_bytes = available_ram_bytes()
        >>> free_bytes is None or free_bytes > 0
        True
    """
    found = (_free_bytes(Path(meminfo)), _left_in_group(Path(group)), _left_by_ulimit())
    return min((left for left in found if left is not None), default=None)


def _free_bytes(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            name, _, amount = line.partition(":")
            if name == "MemAvailable":
                return int(amount.split()[0]) * 1024  # "kB" there means KiB.
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _left_in_group(group: Path) -> int | None:
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = (group / "memory.current").read_text(encoding="ascii").strip()
        # What files keep in memory counts as used, but is given back when needed.
        kept = _inactive_file_bytes((group / "memory.stat").read_text(encoding="ascii"))
        return max(int(limit) - int(used) + kept, 0)
    except (OSError, ValueError):  # "max": no limit.
        return None


def _inactive_file_bytes(statistics: str) -> int:
    rows = (line.split() for line in statistics.splitlines())
    return next((int(row[1]) for row in rows if row[:1] == ["inactive_file"]), 0)


def address_space_bytes() -> int | None:
    """Return the address space that `ulimit -v` leaves to this process in all.

    Returns:
        Bytes, or None if there is no limit.
    """
    try:
        import resource
    except ImportError:  # Windows limits no address space.
        return None
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit_bytes == resource.RLIM_INFINITY else limit_bytes


def _left_by_ulimit() -> int | None:
    limit_bytes = address_space_bytes()
    if limit_bytes is None:
        return None
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        used_bytes = int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
    return max(limit_bytes - used_bytes, 0)
