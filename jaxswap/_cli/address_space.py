"""Address space that a shell or a batch system leaves to a command."""

from __future__ import annotations

from jaxswap._base.units import format_bytes
from jaxswap._cli.command import BadInputError

_LEAST_BYTES = 3 * 2**30
"""Address space in which a tiny network was trained on two processors, rounded up."""


def require_address_space() -> None:
    """Refuse to run programs in too little address space.

    Libraries in C++ end the process where it is used up.

    Raises:
        BadInputError: If `ulimit -v` leaves too little for JAX itself.
    """
    try:
        import resource
    except ImportError:  # Windows limits no address space.
        return
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit_bytes != resource.RLIM_INFINITY and limit_bytes < _LEAST_BYTES:
        raise BadInputError(
            f"the address space is limited to {format_bytes(limit_bytes)}, and JAX "
            f"needs at least {format_bytes(_LEAST_BYTES)}: raise `ulimit -v`."
        )
