"""Floating point operations of an equation, and whether it is heavy or cheap.

These numbers decide which operations can hide a copy, and which are cheap enough to be
executed twice. They are read from shapes and parameters. Nothing is executed.

Heavy is what has kernels of its own that take as long as a copy of their operands:
matrix products and convolutions, hand-written kernels, and what `traffic` finds.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from jaxswap import _compat
from jaxswap._gpu.work import Work
from jaxswap._trace.linear_algebra import solver_flops
from jaxswap._trace.pooling import is_spread
from jaxswap._trace.products import Matmul, convolution_of, grouped_of, matmul_of
from jaxswap._trace.traffic import (
    TRAFFIC,
    array_bytes,
    moved_bytes,
    takes_as_long_as_a_copy,
)

MATMULS = frozenset({"dot_general", "ragged_dot_general"})
PRODUCTS = MATMULS | {"conv_general_dilated"}
"""Primitives that are heavy by themselves."""

KERNELS = frozenset(
    "triton_kernel_call triton_call ffi_call custom_call tpu_custom_call "
    "dot_product_attention_fwd dot_product_attention_fwd_wrapper "
    "dot_product_attention_bwd dot_product_attention_bwd_wrapper".split()
)
"""Primitives whose work cannot be read. They count as heavy, as Pallas kernels do."""

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
    "random_split "
    # In some versions of JAX.
    "eq_to le_to log2 lt_to mulhi polynomial".split()
)
"""Primitives that compute each element by itself."""

INDEX_BYTES = 4
"""XLA finds a pooled maximum by indices of 32 bits."""

MOVES = frozenset(
    "concatenate pad slice dynamic_slice split stack unstack tile gather".split()
)
"""Primitives that copy elements. XLA mostly fuses them into their reader.

A large `gather`, whose result is no smaller than its operands, does not count."""

REDUCTIONS = frozenset(
    "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor "
    "argmax argmin".split()
)
"""Primitives that read much and write little."""

CHEAP = VIEWS | ELEMENTWISE | MOVES | REDUCTIONS
KNOWN = PRODUCTS | CHEAP | TRAFFIC.keys()
"""Primitives whose seconds are no guess."""


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
    name = eqn.primitive.name
    if name in MATMULS:
        return _matmul_of(eqn).flops
    if name == "conv_general_dilated":
        return convolution_of(eqn).flops
    given = cost_estimate(eqn)
    if given is not None:
        return float(given.flops)
    size = sum(math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
    return solver_flops(eqn) or float(size)


def tile_flops(eqn: Any) -> float:
    """Return the floating point operations of matrix units: those of whole tiles."""
    inner = _heavy_inside(eqn)
    if inner:
        return _times(eqn) * sum(map(tile_flops, inner))
    if eqn.primitive.name == "conv_general_dilated":
        return convolution_of(eqn).tile_flops
    if eqn.primitive.name in MATMULS:
        return _matmul_of(eqn).tile_flops
    return flops(eqn)


def tile_count(eqn: Any) -> int:
    """Return the tiles of a matrix product's result; 0 of anything else."""
    is_product = eqn.primitive.name in MATMULS
    return _matmul_of(eqn).tile_count if is_product else 0


def _matmul_of(eqn: Any) -> Matmul:
    is_grouped = eqn.primitive.name == "ragged_dot_general"
    return grouped_of(eqn) if is_grouped else matmul_of(eqn)


def converted_bytes(eqn: Any) -> int:
    """Bytes of a convolution's operands and result where cuDNN converts their layout.

    It holds them once more while it runs. Of a call, the most that a convolution in it
    needs.
    """
    if eqn.primitive.name == "conv_general_dilated":
        found = convolution_of(eqn)
        return found.nbytes if found.is_converted else 0
    return max(map(converted_bytes, _heavy_inside(eqn)), default=0)


def padded_bytes(eqn: Any) -> int:
    """Bytes of a grouped product's operands with a copy for each group.

    XLA fills each copy with zeros outside of its group. That is the left operand, and
    the right one too if what is summed is grouped. Of a call, the most that a product
    in it needs.
    """
    if eqn.primitive.name == "ragged_dot_general":
        found = grouped_of(eqn)
        copied = eqn.invars[: found.copied_count]
        return sum(map(array_bytes, copied)) * found.groups
    return max(map(padded_bytes, _heavy_inside(eqn)), default=0)


def routed_bytes(eqn: Any) -> int:
    """Bytes that the gradient of a pooled maximum takes to find where maxima lie.

    XLA computes the maximum of each window again, and its index along each axis. Small
    windows are not left to XLA (see `pooling`). Of a call, the most that such an
    operation in it needs.
    """
    if is_spread(eqn):
        return 0
    if eqn.primitive.name == "select_and_scatter_add":
        source = eqn.invars[0].aval
        return array_bytes(eqn.invars[0]) + source.size * source.ndim * INDEX_BYTES
    return max(map(routed_bytes, _heavy_inside(eqn)), default=0)


def _heavy_inside(eqn: Any) -> list[Any]:
    return [e for jaxpr in called(eqn) for e in jaxpr.eqns if is_heavy(e)]


def flops_of(jaxpr: Any) -> float:
    """Return the floating point operations of all equations of a jaxpr."""
    return sum(flops(eqn) for eqn in jaxpr.eqns)


def _times(eqn: Any) -> int:
    """How often an equation executes what it calls."""
    return eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1


def called(eqn: Any) -> list[Any]:
    """Return the jaxprs that an equation calls, wherever its parameters hold them.

    What a kernel executes on its blocks is none of them.
    """
    if is_kernel(eqn):
        return []
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
    """Whether an equation, or one that it calls, takes long enough to hide a copy."""
    name = eqn.primitive.name
    if name in PRODUCTS or is_kernel(eqn):
        return True
    if is_spread(eqn):
        return False
    inner = [] if name in TRAFFIC else called(eqn)
    if inner:
        return any(is_heavy(e) for jaxpr in inner for e in jaxpr.eqns)
    is_fused = name in CHEAP and name not in TRAFFIC
    return not is_fused and takes_as_long_as_a_copy(eqn)


def is_kernel(eqn: Any) -> bool:
    """Whether an equation is a kernel, which is executed as it is."""
    return eqn.primitive.name in KERNELS or _compat.is_kernel(eqn)


def cost_estimate(eqn: Any) -> Any | None:
    """Return the `jax.experimental.pallas.CostEstimate` that a kernel was given."""
    return eqn.params.get("cost_estimate")


def is_reduction(eqn: Any) -> bool:
    """Whether an equation reads much and writes little."""
    return eqn.primitive.name in REDUCTIONS


def is_known(eqn: Any) -> bool:
    """Whether the cost of an equation is known. If not, its bytes give a guess."""
    inner = called(eqn)
    if inner:
        return all(is_known(e) for jaxpr in inner for e in jaxpr.eqns)
    is_given = is_kernel(eqn) and cost_estimate(eqn) is not None
    return is_given or eqn.primitive.name in KNOWN


def work(eqn: Any) -> Work | None:
    """Return what limits a heavy equation: the kind of product and its number type.

    For a call, it is the kind of its product with most operations. Products of 32-bit
    operands run as TF32, XLA's default, unless they request a higher precision. Linear
    algebra always has the full precision.
    """
    inner = _heavy_inside(eqn)
    if inner:
        return work(max(inner, key=flops))
    name = eqn.primitive.name
    is_solver = solver_flops(eqn) > 0
    if not (name in PRODUCTS or is_solver or cost_estimate(eqn) is not None):
        return None
    product = "matmul"
    if name == "conv_general_dilated":
        is_gradient = convolution_of(eqn).is_kernel_gradient
        product = "kernel_gradient" if is_gradient else "convolution"
    itemsize = max((v.aval.dtype.itemsize for v in eqn.invars[:2]), default=4)
    is_exact = is_solver or "HIGH" in str(eqn.params.get("precision"))
    wide = "fp32" if is_exact or itemsize > 4 else "tf32"
    return Work(f"{wide if itemsize > 2 else 'bf16'}_{product}")


def inner_bytes(eqn: Any) -> float:
    """Bytes that a loop or call moves inside: what its products and sums touch.

    Of an operation with kernels of its own, what these read and write.
    """
    given = cost_estimate(eqn)
    if given is not None:
        return float(given.bytes_accessed)
    if eqn.primitive.name in TRAFFIC:
        return float(moved_bytes(eqn)) if is_heavy(eqn) else 0.0
    return _times(eqn) * sum(
        inner_bytes(e) or _touched(e) for jaxpr in called(eqn) for e in jaxpr.eqns
    )


def _touched(eqn: Any) -> float:
    """Return the bytes of a product's arrays, or a quarter of them if XLA fuses it."""
    nbytes = sum(map(array_bytes, (*eqn.invars, *eqn.outvars)))
    name = eqn.primitive.name
    return nbytes if name in PRODUCTS else 0.0 if name in VIEWS else nbytes / 4


def is_cheap(eqn: Any) -> bool:
    """Whether to recompute the equation costs about one pass over memory."""
    name = eqn.primitive.name
    if is_spread(eqn):
        return True
    inner = [] if name in TRAFFIC else called(eqn)
    if not inner:
        return name in CHEAP and not is_heavy(eqn)
    if name in ("scan", "while"):
        return False
    return all(is_cheap(e) for jaxpr in inner for e in jaxpr.eqns)
