"""Floating point operations of an equation, and which primitives are cheap.

These numbers decide which operations can hide a copy, and which are cheap enough to be
executed twice. They are read from shapes and parameters. Nothing is executed.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from jaxswap._gpu.work import Work
from jaxswap._trace.products import convolution_of, matmul_of

PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})
"""Primitives that are heavy by themselves."""

KERNELS = frozenset({"pallas_call", "triton_kernel_call", "ffi_call", "custom_call"})
"""Primitives whose work cannot be read. They count as heavy."""

VIEWS = frozenset(
    "reshape transpose squeeze broadcast_in_dim bitcast_convert_type name rev".split()
)
"""Primitives that XLA can often replace by another view of the same bytes."""

ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e "
    "cbrt ceil clamp clz complex conj convert_element_type cos cosh digamma div eq "
    "erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow iota is_finite le "
    "lgamma log log1p logistic lt max min mul ne neg nextafter not one_minus_square "
    "or population_count pow real reduce_precision rem round rsqrt select_n "
    "shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square "
    "stop_gradient copy sub tan tanh xor optimization_barrier "
    "random_bits threefry2x32 random_unwrap random_wrap random_seed random_fold_in "
    "random_split".split()
)
"""Primitives that compute each element by itself."""

MOVES = frozenset(
    "concatenate pad slice dynamic_slice split stack unstack gather".split()
)
"""Primitives that copy elements. XLA mostly fuses them into their reader."""

REDUCTIONS = frozenset(
    "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor "
    "argmax argmin".split()
)
"""Primitives that read much and write little."""

CHEAP = VIEWS | ELEMENTWISE | MOVES | REDUCTIONS

SCATTERS = frozenset(
    "scatter scatter-add scatter-sub scatter-mul scatter-min scatter-max".split()
)
"""Primitives that write into their first operand."""

CLEAR = SCATTERS | frozenset(
    "cumsum cumprod cummax cummin cumlogsumexp sort top_k dynamic_update_slice "
    "reduce_window reduce_window_sum reduce_window_max reduce_window_min "
    "select_and_scatter_add select_and_gather_add reduce fft device_put".split()
)
"""Primitives that XLA runs in a few passes over their operands and results."""


def flops(eqn: Any) -> float:
    """Return the floating point operations of a jaxpr equation and of what it calls.

    An element-by-element operation counts one for each element of its result. A loop
    counts its trip count times, or once if that is unknown. A branch counts its most
    costly side.
    Multiplications with the zeros between the voxels of a dilated operand do not count.
    """
    inner = [flops_of(jaxpr) for jaxpr in called(eqn)]
    if inner:
        most = max if eqn.primitive.name == "cond" else sum
        return _times(eqn) * most(inner)
    size = sum(math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
    if eqn.primitive.name == "dot_general":
        return matmul_of(eqn).flops
    if eqn.primitive.name == "conv_general_dilated":
        return convolution_of(eqn).flops
    return float(size)


def tile_flops(eqn: Any) -> float:
    """Return the floating point operations of matrix units: those of whole tiles."""
    inner = [e for jaxpr in called(eqn) for e in jaxpr.eqns if is_heavy(e)]
    if inner:
        return _times(eqn) * sum(map(tile_flops, inner))
    if eqn.primitive.name == "conv_general_dilated":
        return convolution_of(eqn).tile_flops
    if eqn.primitive.name == "dot_general":
        return matmul_of(eqn).tile_flops
    return flops(eqn)


def tile_count(eqn: Any) -> int:
    """Return the tiles of a matrix product's result; 0 of anything else."""
    is_product = eqn.primitive.name == "dot_general"
    return matmul_of(eqn).tile_count if is_product else 0


def workspace_bytes(eqn: Any) -> int:
    """Bytes of a convolution's operands and result where cuDNN converts their layout.

    It holds them once more while it runs. Of a call, the most that a convolution in it
    needs.
    """
    if eqn.primitive.name == "conv_general_dilated":
        found = convolution_of(eqn)
        return found.nbytes if found.is_converted else 0
    inner = [e for jaxpr in called(eqn) for e in jaxpr.eqns if is_heavy(e)]
    return max(map(workspace_bytes, inner), default=0)


def flops_of(jaxpr: Any) -> float:
    """Return the floating point operations of all equations of a jaxpr."""
    return sum(flops(eqn) for eqn in jaxpr.eqns)


def _times(eqn: Any) -> int:
    """How often an equation executes what it calls."""
    return eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1


def called(eqn: Any) -> list[Any]:
    """Return the jaxprs that an equation calls, wherever its parameters hold them."""
    return [j for param in eqn.params.values() for j in _jaxprs(param)]


def equations_within(eqns: Iterable[Any]) -> Iterator[Any]:
    """Go over equations, and over those of all that they call."""
    for eqn in eqns:
        yield eqn
        for jaxpr in called(eqn):
            yield from equations_within(jaxpr.eqns)


def _jaxprs(param: Any) -> Iterable[Any]:
    if hasattr(param, "eqns"):
        yield param
    elif hasattr(param, "jaxpr") and hasattr(param.jaxpr, "eqns"):
        yield param.jaxpr
    elif isinstance(param, (tuple, list)):
        for item in param:
            yield from _jaxprs(item)


def is_heavy(eqn: Any) -> bool:
    """Whether an equation is, or calls, a matrix product or a convolution."""
    name = eqn.primitive.name
    if name in PRODUCTS or name in KERNELS:
        return True
    return any(is_heavy(e) for jaxpr in called(eqn) for e in jaxpr.eqns)


def is_reduction(eqn: Any) -> bool:
    """Whether an equation reads much and writes little."""
    return eqn.primitive.name in REDUCTIONS


def is_known(eqn: Any) -> bool:
    """Whether the cost of an equation is known. If not, its bytes give a guess."""
    inner = called(eqn)
    if inner:
        return all(is_known(e) for jaxpr in inner for e in jaxpr.eqns)
    return eqn.primitive.name in PRODUCTS | CHEAP | CLEAR


def work(eqn: Any) -> Work | None:
    """Return what limits a heavy equation: the kind of product and its number type.

    For a call, it is the kind of its product with most operations. Products of 32-bit
    operands run as TF32, XLA's default, unless they request a higher precision.
    """
    inner = [e for jaxpr in called(eqn) for e in jaxpr.eqns if is_heavy(e)]
    if inner:
        return work(max(inner, key=flops))
    name = eqn.primitive.name
    if name not in PRODUCTS:
        return None
    product = "matmul"
    if name == "conv_general_dilated":
        is_gradient = convolution_of(eqn).is_kernel_gradient
        product = "kernel_gradient" if is_gradient else "convolution"
    itemsize = max(v.aval.dtype.itemsize for v in eqn.invars[:2])
    is_exact = "HIGH" in str(eqn.params.get("precision"))
    wide = "fp32" if is_exact or itemsize > 4 else "tf32"
    return Work(f"{wide if itemsize > 2 else 'bf16'}_{product}")


def inner_bytes(eqn: Any) -> float:
    """Bytes that a loop or call moves inside: what its products and sums touch."""
    return _times(eqn) * sum(
        inner_bytes(e) or _touched(e) for jaxpr in called(eqn) for e in jaxpr.eqns
    )


def _touched(eqn: Any) -> float:
    """Return the bytes of a product's arrays, or a quarter of them if XLA fuses it."""
    avals = [v.aval for v in (*eqn.invars, *eqn.outvars)]
    nbytes = sum(
        math.prod(a.shape) * getattr(a.dtype, "itemsize", 0)
        for a in avals
        if hasattr(a, "shape")
    )
    name = eqn.primitive.name
    return nbytes if name in PRODUCTS else 0.0 if name in VIEWS else nbytes / 4


def is_cheap(eqn: Any) -> bool:
    """Whether to recompute the equation costs about one pass over memory."""
    inner = called(eqn)
    if not inner:
        return eqn.primitive.name in CHEAP
    if eqn.primitive.name in ("scan", "while"):
        return False
    return all(is_cheap(e) for jaxpr in inner for e in jaxpr.eqns)
