"""`jit`: `jax.jit` with the options that a program needs on a GPU."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxswap._device.resolve import default_device
from jaxswap._trace.options import options_of


def jit(fn: Callable[..., Any] | None = None, **arguments: Any) -> Any:
    """Compile a function as `jax.jit` does, with `jaxswap.compiler_options`.

    Without these options XLA may overlap no copy with computation, and a plan for a
    program with three-dimensional convolutions may not hold. They are for GPUs. If
    JAX's default device is none, this is `jax.jit`.

    The options depend on the program, so they are chosen when the function is first
    called, traced or lowered, and stay.

    Args:
        fn: The function. Without it, the result is a decorator.
        **arguments: Passed to `jax.jit`. An option in `compiler_options` wins over that
            of jaxswap, which is added to the others.

    Returns:
        The function, compiled when it is first called. It has `trace`, `lower`,
        `eval_shape` and `clear_cache`, as what `jax.jit` returns.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> def loss(w):
        ...     return jnp.sum(jnp.tanh(w @ w))
        >>> step = jaxswap.jit(jax.value_and_grad(jaxswap.offload(loss)))
        >>> value, gradient = step(jnp.eye(4))
        >>> gradient.shape
        (4, 4)
    """
    if fn is None:
        return functools.partial(jit, **arguments)
    return Jitted(fn, arguments)


class Jitted:
    """A function that is compiled with the options that its program needs.

    Args:
        fn: The function.
        arguments: Those of `jax.jit`.
    """

    def __init__(self, fn: Callable[..., Any], arguments: dict[str, Any]) -> None:
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._arguments = arguments
        self._given = dict(arguments.get("compiler_options") or {})
        self._chosen: Any = None
        self.bare: Any = jax.jit(fn, **{**arguments, "compiler_options": None})
        """The function as `jax.jit` compiles it without options."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the compiled function."""
        return (self._chosen or self._choose(args, kwargs))(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Return the function bound to an object, as a method is."""
        return self if instance is None else functools.partial(self, instance)

    def trace(self, *args: Any, **kwargs: Any) -> jax.stages.Traced:
        """Trace the function, as `jax.jit(fn).trace` does."""
        return (self._chosen or self._choose(args, kwargs)).trace(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """Lower the function, as `jax.jit(fn).lower` does."""
        return (self._chosen or self._choose(args, kwargs)).lower(*args, **kwargs)

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Return the types of the results, as `jax.jit(fn).eval_shape` does."""
        return self.bare.eval_shape(*args, **kwargs)

    def clear_cache(self) -> None:
        """Forget what was compiled, as `jax.jit(fn).clear_cache` does."""
        for jitted in (self.bare, self._chosen):
            if jitted is not None:
                jitted.clear_cache()

    def options(self, traced: jax.stages.Traced, *, is_for_gpu: bool) -> dict[str, Any]:
        """Return the options for what `bare` traced."""
        chosen = options_of(traced.jaxpr.eqns) if is_for_gpu else {}
        return chosen | self._given

    def _choose(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compile with the options for the device at hand from now on."""
        # JAX keeps the trace: the function is not traced again when it is called.
        is_for_gpu = default_device().platform == "gpu"
        options = self.options(self.bare.trace(*args, **kwargs), is_for_gpu=is_for_gpu)
        arguments = {**self._arguments, "compiler_options": options or None}
        self._chosen = jax.jit(self._fn, **arguments)
        return self._chosen
