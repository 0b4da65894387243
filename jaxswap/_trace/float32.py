"""A function -> the same function with float32 in place of bfloat16 and float16.

It tells what rounding to 16 bits costs. All equations are executed as they are, only
their types are wider, so the user's function need not be written anew.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxswap import _compat
from jaxswap._trace import cost
from jaxswap._trace.function import Arguments, flatten_function
from jaxswap._trace.jaxpr import Interpreter

NARROW = (np.dtype(jnp.bfloat16), np.dtype(jnp.float16))
FIXED = frozenset({"io_callback", "pure_callback", "shard_map"})
"""Operations that exist only for the types that they were made for, as kernels do."""
HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)


def in_float32(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that computes in float32 what `fn` computes in 16 bits.

    Every bfloat16 and float16 value becomes float32, arguments and results included.
    Casts to 16 bits do nothing. Matrix products and convolutions have the highest
    precision. Integers, random keys and all other types stay.

    Differentiate first: derivatives that `fn` defines by `jax.custom_vjp` or
    `jax.custom_jvp` are lost in the result.

    Args:
        fn: A function. It is traced when the result is called. Leaves of its arguments
            that are not arrays are static.

    Returns:
        The function of the same arguments. Compile it with `jax.jit`. It raises
        `NotImplementedError` if `fn` holds an operation that exists for its types only,
        such as a Pallas kernel.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxswap.extend import in_float32
        >>> def loss(x):
        ...     return jnp.sum(jnp.tanh(x) ** 2)
        >>> x = jnp.arange(3, dtype=jnp.bfloat16)
        >>> jax.grad(loss)(x).dtype, in_float32(jax.grad(loss))(x).dtype
        (dtype(bfloat16), dtype('float32'))
    """

    @functools.wraps(fn)
    def widened(*args: Any, **kwargs: Any) -> Any:
        arguments = Arguments.of(args, kwargs, _is_array)
        flat, closed_over = flatten_function(fn, arguments)
        operands = (*closed_over, *arguments.arrays)
        results = _Widening().run(flat.jaxpr, [_wide(x) for x in operands])
        return jax.tree.unflatten(flat.out_tree, results)

    return widened


class _Widening(Interpreter):
    """Executes equations on float32 arrays where they were traced for 16 bits."""

    def call(
        self, eqn: core.JaxprEqn, inputs: Sequence[Any]
    ) -> tuple[Any, Sequence[Any]] | None:
        """Look into functions with a derivative of their own, which is not needed."""
        if not eqn.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call")):
            return None
        return eqn.params["call_jaxpr"], inputs

    def execute(self, eqn: core.JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
        """Execute an equation in float32."""
        name = eqn.primitive.name
        of_operand: Any = eqn.invars[0].aval if eqn.invars else None
        if name in FIXED or cost.is_kernel(eqn):
            raise NotImplementedError(f"`{name}` exists only for its own types.")
        if name == "reduce_precision" and _is_narrow(of_operand):
            return inputs
        if name == "bitcast_convert_type":  # bits are those of the narrow number
            exact = inputs[0].astype(of_operand.dtype)
            return [_wide(x) for x in super().execute(eqn, [exact])]
        params = {key: _wide_param(value) for key, value in eqn.params.items()}
        if name in cost.PRODUCTS:
            params["precision"] = HIGHEST
        return super().execute(eqn.replace(params=params), inputs)

    def literal(self, atom: core.Literal) -> Any:
        """Return the number that a literal holds."""
        return np.float32(atom.val) if _is_narrow(atom.aval) else atom.val

    def constant(self, variable: core.Var, value: Any) -> Any:
        """Return a constant."""
        return _wide(value)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))


def _is_narrow(x: Any) -> bool:
    """Whether an array or a type has 16-bit floating point numbers."""
    return getattr(x, "dtype", None) in NARROW


def _wide(x: Any) -> Any:
    """Return an array in float32 if it has 16 bits."""
    return x.astype(np.float32) if _is_narrow(x) else x


def _wide_param(value: Any) -> Any:
    """Return a parameter of an equation with float32 in place of 16 bits."""
    if isinstance(value, (core.ClosedJaxpr, core.Jaxpr)):
        return _wide_jaxpr(value)
    if isinstance(value, tuple):
        parts = [_wide_param(part) for part in value]
        is_named = hasattr(value, "_fields")
        return type(value)(*parts) if is_named else tuple(parts)
    is_narrow = isinstance(value, (np.dtype, type)) and value in NARROW
    return np.dtype(np.float32) if is_narrow else value


def _wide_jaxpr(jaxpr: Any) -> Any:
    """Trace a jaxpr that an equation calls anew, in float32."""
    is_closed = isinstance(jaxpr, core.ClosedJaxpr)
    closed = jaxpr if is_closed else core.ClosedJaxpr(jaxpr, ())
    avals: list[Any] = [v.aval for v in _compat.open_jaxpr(closed)[0].invars]
    types = [
        jax.ShapeDtypeStruct(a.shape, np.float32 if _is_narrow(a) else a.dtype)
        for a in avals
    ]
    made = jax.make_jaxpr(lambda *xs: _Widening().run_closed(closed, xs))(*types)
    return made if is_closed else made.jaxpr
