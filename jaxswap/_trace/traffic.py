"""Operations that XLA does not fuse -> the bytes that they move through device memory.

Elementwise operations are fused into what reads them, so they move next to nothing of
their own. A sort, a Fourier transform, a scatter or a triangular solve runs in kernels
of its own, and reads and writes its arrays once or more. An operation that moves as
many bytes as a copy of its operands would takes as long as that copy. Such a one hides
copies, and it is dear to execute twice. This is said of the operation, whatever it is
called: what nothing is known of counts as such a one, too.

The counts are lower bounds, read from how the libraries work. They are estimated, not
timed.
"""

import math
from collections.abc import Callable
from typing import Any

LEAST_BYTES = 1 << 20
"""What moves less is done before a copy has started."""

_DIGIT_BYTES = 1
"""The part of a key by which one pass of a radix sort sorts (Adinets and Merrill 2022,
"Onesweep", arXiv 2206.01784)."""

SCATTERS = frozenset(
    "scatter scatter-add scatter-sub scatter-mul scatter-min scatter-max".split()
)
"""Primitives that write into their first operand."""

_PASSES = (
    "cumsum cumprod cummax cummin cumlogsumexp reduce reduce_window reduce_window_sum "
    "reduce_window_max reduce_window_min select_and_gather_add"
).split()
_LINEAR_ALGEBRA = (
    "triangular_solve cholesky lu geqrf qr householder_product eigh eig svd schur "
    "hessenberg tridiagonal tridiagonal_solve"
).split()


def array_bytes(atom: Any) -> int:
    """Bytes of a variable's array; 0 of what has no size, such as a token."""
    aval = atom.aval
    itemsize = getattr(getattr(aval, "dtype", None), "itemsize", 0)
    return math.prod(getattr(aval, "shape", ())) * itemsize


def _operands(eqn: Any) -> int:
    return sum(map(array_bytes, eqn.invars))


def _results(eqn: Any) -> int:
    return sum(map(array_bytes, eqn.outvars))


def _once(eqn: Any) -> int:
    """Operands are read once, results are written once."""
    return _operands(eqn) + _results(eqn)


def _gathered(eqn: Any) -> int:
    """What the result holds is read and written. The rest of the operand is not."""
    return array_bytes(eqn.invars[1]) + 2 * _results(eqn)


def _scattered(eqn: Any) -> int:
    """The result is written once; what is updated, is read and written once more."""
    _, indices, updates = map(array_bytes, eqn.invars[:3])
    return _results(eqn) + indices + 3 * updates


def _sorted(eqn: Any) -> int:
    """A radix sort reads and writes keys and values for each digit of the keys."""
    digits = -(-eqn.invars[0].aval.dtype.itemsize // _DIGIT_BYTES)
    return 2 * _operands(eqn) * digits


def _solved(eqn: Any) -> int:
    """A factorization is made in place, and changes its operands many times."""
    return 2 * _operands(eqn) + _results(eqn)


def _transformed(eqn: Any) -> int:
    """A Fourier transform reads and writes everything for each dimension."""
    return _once(eqn) * len(eqn.params["fft_lengths"])


def _updated(eqn: Any) -> int:
    """A slice is written in place."""
    return 2 * array_bytes(eqn.invars[1])


def _routed(eqn: Any) -> int:
    """Windows are read, zeros are written, sources are read and added."""
    return _operands(eqn) + 2 * _results(eqn)


def _nothing(eqn: Any) -> int:
    """A copy between memories, or a change of place, runs beside computation."""
    del eqn
    return 0


TRAFFIC: dict[str, Callable[[Any], int]] = {
    **dict.fromkeys(_PASSES, _once),
    **dict.fromkeys(_LINEAR_ALGEBRA, _solved),
    **dict.fromkeys(SCATTERS, _scattered),
    "gather": _gathered,
    "sort": _sorted,
    "top_k": _sorted,
    "fft": _transformed,
    "dynamic_update_slice": _updated,
    "select_and_scatter_add": _routed,
    "device_put": _nothing,
}
"""The bytes that operations with kernels of their own move, by primitive."""

WAITING = frozenset(
    "all_gather all_gather_reduced all_to_all axis_index pbroadcast pcast pmax pmin "
    "ppermute psum psum2 psum_invariant pvary ragged_all_to_all reduce_scatter "
    "unreduced_psum layout_constraint mesh_cast reshard sharding_constraint "
    "create_token after_all".split()
)
"""What waits for other devices or says where arrays lie: no work to hide copies."""


def moved_bytes(eqn: Any) -> int:
    """Bytes that an operation with kernels of its own reads and writes.

    Of an operation that nothing is known of, its operands and results.
    """
    return TRAFFIC.get(eqn.primitive.name, _once)(eqn)


def takes_as_long_as_a_copy(eqn: Any) -> bool:
    """Whether an operation moves as much as a copy of its operands does.

    It is asked of operations that XLA does not fuse. What nothing is known of may take
    any time, so its size decides.
    """
    name = eqn.primitive.name
    if name in WAITING:
        return False
    copied = 2 * _operands(eqn) if name in TRAFFIC else 0
    return moved_bytes(eqn) >= max(LEAST_BYTES, copied)
