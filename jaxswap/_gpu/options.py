"""What XLA must be told so that copies run beside computation."""


def compiler_options() -> dict[str, bool]:
    """Return the options with which XLA overlaps copies on every GPU.

    XLA orders a program so that asynchronous copies run beside computation in its
    latency-hiding scheduler, which by itself it runs for Hopper GPUs and newer only.
    Without it each copy is waited for at once. The gradients are right either way.

    Returns:
        Options for `jax.jit(fn, compiler_options=...)` and `jaxswap.inspect`.

    Example:
        >>> import jax, jaxswap
        >>> jax.jit(lambda x: 2 * x, compiler_options=jaxswap.compiler_options())(1.0)
        Array(2., dtype=float32, weak_type=True)
    """
    return {"xla_gpu_enable_latency_hiding_scheduler": True}
