"""Floating point operations of an equation, and which primitives are cheap.

The numbers decide which operations can hide a copy and which are worth computing
twice. Everything is read from shapes and parameters; nothing is executed.
"""

import math
from collections.abc import Iterable
from typing import Any

PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})
"""Primitives that are heavy by themselves."""

KERNELS = frozenset({"pallas_call", "triton_kernel_call", "ffi_call", "custom_call"})
"""Primitives that hide their work; taken as heavy."""

VIEWS = frozenset(
    "reshape transpose squeeze broadcast_in_dim bitcast_convert_type name rev".split()
)
"""Primitives that XLA can often turn into a different look at the same bytes."""

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

MOVES = frozenset("concatenate pad slice dynamic_slice split gather".split())
"""Primitives that copy elements about; fused into a consumer more often than not."""

REDUCTIONS = frozenset(
    "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor "
    "argmax argmin".split()
)
"""Primitives that read much and write little."""

CHEAP = VIEWS | ELEMENTWISE | MOVES | REDUCTIONS


def flops(eqn: Any) -> float:
    """Floating point operations of one jaxpr equation, those it calls included.

    Element-by-element operations count one for each element of their results. A loop
    counts its trip count when that is known, else one; a branch its dearest side.
    """
    inner = [flops_of(jaxpr) for jaxpr in called(eqn)]
    if inner:
        times = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
        return times * (max(inner) if eqn.primitive.name == "cond" else sum(inner))
    size = sum(math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2.0 * size * math.prod(eqn.invars[0].aval.shape[d] for d in contracted)
    if eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        spec = eqn.params["dimension_numbers"].rhs_spec
        return 2.0 * size * math.prod(kernel) / kernel[spec[0]]
    return float(size)


def flops_of(jaxpr: Any) -> float:
    """Floating point operations of all equations of a jaxpr."""
    return sum(flops(eqn) for eqn in jaxpr.eqns)


def called(eqn: Any) -> list[Any]:
    """The jaxprs that an equation calls, wherever they stand in its parameters."""
    return [j for param in eqn.params.values() for j in _jaxprs(param)]


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


def is_cheap(eqn: Any) -> bool:
    """Whether computing an equation again costs about one pass over memory."""
    inner = called(eqn)
    if not inner:
        return eqn.primitive.name in CHEAP
    if eqn.primitive.name in ("scan", "while"):
        return False
    return all(is_cheap(e) for jaxpr in inner for e in jaxpr.eqns)
