"""Memory of the machine, compared with what is needed before anything is allocated."""

from __future__ import annotations

from jaxswap.extend import available_ram_bytes

_GIB = 2**30


def require_memory(needed_bytes: float, what: str) -> None:
    """Check that this machine can hold an array.

    Args:
        needed_bytes: Bytes of the array.
        what: What it is, for the message, such as `"a.nii: its voxels"`.

    Raises:
        ValueError: If there is not as much memory.
    """
    left = available_ram_bytes()
    if left is not None and needed_bytes > left:
        raise ValueError(
            f"{what} would take {needed_bytes / _GIB:,.1f} GiB of memory, and this "
            f"machine has {left / _GIB:,.1f} GiB left."
        )
