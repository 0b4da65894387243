"""The name of a heavy operation: the same for all that take the same time on one GPU.

What was measured of one program is found again by this name in another one, in another
process and with another version of JAX.
"""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp

from jaxswap._trace.cost import equations_within

_PARAMETERS = {
    "conv_general_dilated": (
        "window_strides",
        "padding",
        "lhs_dilation",
        "rhs_dilation",
        "feature_group_count",
        "batch_group_count",
    ),
    "dot_general": ("dimension_numbers",),
}
"""What decides about the time besides types and precision. Axes come apart."""

_KERNELS = ("pallas_call", "mpmd_map")
"""Primitives of Pallas: kernels of one kind of program, and for Mosaic of several."""


def operation_name(eqn: Any) -> str:
    """Name a product, convolution or kernel by its types, shapes and parameters.

    Args:
        eqn: A jaxpr equation.

    Returns:
        Text such as `"dot_general bfloat16[8,16] bfloat16[16,4] bfloat16[8,4] 0a1b2c"`,
        where the end stands for the parameters. "" for all other equations, whose time
        depends on what XLA fuses with them, or on the numbers that they are given.
    """
    if eqn.primitive.name in _KERNELS:
        return _kernel_name(eqn)
    names = _PARAMETERS.get(eqn.primitive.name)
    if names is None:
        return ""
    parameters = [f"{name}={_plain(eqn.params[name])}" for name in names]
    parameters.append(f"precision={_plain(eqn.params['precision'])}")
    if eqn.primitive.name == "conv_general_dilated":
        numbers = eqn.params["dimension_numbers"]
        parameters += map(str, (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec))
    return " ".join((eqn.primitive.name, _types(eqn), _digest(parameters)))


def program_name(jaxpr: Any) -> str:
    """Name a traced program by the types of its arguments and by its operations.

    Args:
        jaxpr: An open jaxpr.

    Returns:
        Text such as `"program bfloat16[8,16] bfloat16[16] 0a1b2c"`: arguments, results,
        and at the end what stands for the operations.
    """
    operations = [
        operation_name(eqn) or f"{eqn.primitive.name} {_types(eqn)} {_numbers(eqn)}"
        for eqn in equations_within(jaxpr.eqns)
    ]
    return f"program {_types(jaxpr)} {_digest(operations)}"


def _kernel_name(eqn: Any) -> str:
    """Name a kernel in Pallas, such as `"pallas_call softmax ... (8,2) 0a1b2c"`.

    A kernel with integers among its operands has no name: they can say how much there
    is to do. Nor has one that writes into an operand: it cannot be repeated.
    """
    params = eqn.params
    operands = [v.aval for v in eqn.invars]
    grid, programs = _grid_and_programs(eqn)
    is_repeatable = (
        operands
        and all(jnp.issubdtype(a.dtype, jnp.inexact) for a in operands)
        and all(isinstance(n, int) for n in grid)
        and not params["input_output_aliases"]
        and not params["interpret"]
        and not eqn.effects
    )
    if not is_repeatable:
        return ""
    parameters = [
        f"{part.primitive.name} {_types(part)}"
        for program in programs
        for part in equations_within(program.eqns)
    ]
    parameters.append(str(params["compiler_params"]))
    name = params.get("name") or "unnamed"
    parts = (eqn.primitive.name, name, _types(eqn), _plain(grid), _digest(parameters))
    return " ".join(parts)


def _grid_and_programs(eqn: Any) -> tuple[tuple[Any, ...], Sequence[Any]]:
    params = eqn.params
    if eqn.primitive.name == "pallas_call":
        return params["grid_mapping"].grid, [params["jaxpr"]]
    grids = (mesh.grid for mesh in params["meshes"])
    return tuple(itertools.chain(*grids)), params["jaxprs"]


def _types(eqn: Any) -> str:
    arrays = [v.aval for v in (*eqn.invars, *eqn.outvars)]
    return " ".join(
        f"{a.dtype}[{','.join(map(str, a.shape))}]"
        for a in arrays
        if hasattr(a, "dtype")
    )


def _numbers(eqn: Any) -> str:
    """Write those parameters that are numbers, texts, or tuples of them."""
    plain = (bool, int, float, str)
    return " ".join(
        f"{name}={value}"
        for name, value in sorted(eqn.params.items())
        if isinstance(value, plain)
        or (isinstance(value, tuple) and all(isinstance(v, plain) for v in value))
    )


def _digest(parameters: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(parameters).encode()).hexdigest()[:12]


def _plain(value: Any) -> str:
    """Write a parameter in a form that does not depend on JAX's version."""
    if isinstance(value, tuple | list):
        return f"({','.join(map(_plain, value))})"
    return getattr(value, "name", None) or str(value)
