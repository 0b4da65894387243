"""The name of a heavy operation: the same for all that take the same time on one GPU.

What was measured of one program is found again by this name in another one, in another
process and with another version of JAX.
"""

import hashlib
from typing import Any

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


def operation_name(eqn: Any) -> str:
    """Name a product or convolution by its types, shapes and parameters.

    Args:
        eqn: A jaxpr equation.

    Returns:
        Text such as `"dot_general bfloat16[8,16] bfloat16[16,4] bfloat16[8,4] 0a1b2c"`,
        where the end stands for the parameters. "" for all other equations, whose time
        depends on what XLA fuses with them.
    """
    names = _PARAMETERS.get(eqn.primitive.name)
    if names is None:
        return ""
    parameters = [f"{name}={_plain(eqn.params[name])}" for name in names]
    parameters.append(f"precision={_plain(eqn.params['precision'])}")
    if eqn.primitive.name == "conv_general_dilated":
        numbers = eqn.params["dimension_numbers"]
        parameters += map(str, (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec))
    digest = hashlib.sha256(" ".join(parameters).encode()).hexdigest()[:12]
    arrays = [v.aval for v in (*eqn.invars, *eqn.outvars)]
    types = (f"{a.dtype}[{','.join(map(str, a.shape))}]" for a in arrays)
    return " ".join((eqn.primitive.name, *types, digest))


def _plain(value: Any) -> str:
    """Write a parameter in a form that does not depend on JAX's version."""
    if isinstance(value, tuple | list):
        return f"({','.join(map(_plain, value))})"
    return getattr(value, "name", None) or str(value)
