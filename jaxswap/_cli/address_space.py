"""Address space that a shell or a batch system leaves to a command."""

from __future__ import annotations

from jaxswap._base.units import format_bytes
from jaxswap._cli.command import BadInputError
from jaxswap._gpu.host_memory import address_space_bytes

_LEAST_BYTES = 3 * 2**30
"""Address space in which a tiny network was trained on two processors, rounded up."""


def require_address_space() -> None:
    """Refuse to run programs in too little address space.

    Libraries in C++ end the process where it is used up.

    Raises:
        BadInputError: If `ulimit -v` leaves too little for JAX itself.
    """
    limit_bytes = address_space_bytes()
    if limit_bytes is not None and limit_bytes < _LEAST_BYTES:
        raise BadInputError(
            f"the address space is limited to {format_bytes(limit_bytes)}, and JAX "
            f"needs at least {format_bytes(_LEAST_BYTES)}: raise `ulimit -v`."
        )
