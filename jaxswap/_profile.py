"""`profile`: run a compiled step on this machine's GPU -> what each lane did when."""

from typing import Any

import jax

from jaxswap._base.arguments import at_least_one
from jaxswap._compiled.hlo import parse_module
from jaxswap._device.record import record
from jaxswap._device.resolve import default_device, describe_device
from jaxswap._plans.plan import Plan, checked_plan
from jaxswap._profiled.profile import Profile
from jaxswap._profiled.streams import read_steps


def profile(
    step: Any, *args: Any, plan: Plan | None = None, repeats: int = 5, **kwargs: Any
) -> Profile:
    """Run a step on this machine's GPU and measure what kernels and copies did.

    A plan says when each kernel and each copy should run. A profile says when they did
    run: the seconds of kernels by what they compute, the copies each way, how much of
    the copies ran beside kernels, and how long the GPU waited. Profiling makes a step a
    little slower. If you only want its duration, time it without.

    Args:
        step: The compiled step, `jax.jit(f, ...).lower(*args).compile()`, or a jitted
            function, which is compiled first.
        *args: Its arguments: arrays. Donated arguments are copied before each run.
        plan: The plan that the step follows, to be shown beside the measurement.
            `None`: the plan given to `jaxswap.offload(loss, plan=...)`, if `step` is
            `jax.jit` of `loss` or of its gradient.
        repeats: How many steps are recorded. One step before them is not.
        **kwargs: Its arguments by name.

    Returns:
        The measurement. `print` shows it beside the plan, and
        `profile.to_perfetto("step.json")` writes both for ui.perfetto.dev.

    Raises:
        TypeError: If `step` is neither compiled nor jitted, or `plan` is no plan.
        ValueError: If `repeats` is no integer above 0, or if no kernel was recorded.
        RuntimeError: If JAX's default device is no GPU.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> def loss(w):
        ...     return jnp.sum(jnp.tanh(w @ w))
        >>> step = jaxswap.jit(jax.grad(loss))
        >>> if jax.default_backend() == "gpu":
        ...     profile = jaxswap.profile(step, jnp.eye(1024))
        ...     busy_share = profile.compute_seconds / profile.seconds
    """
    repeats = at_least_one(repeats, "repeats")
    if not isinstance(step, jax.stages.Compiled | jax.stages.Wrapped):
        raise TypeError(
            f"`step` is {step!r}, which is not compiled: pass jaxswap.jit(step), or "
            "what its .lower(...).compile() returns."
        )
    if plan is not None:
        checked_plan(plan)
    device = default_device()
    if device.platform != "gpu":
        raise RuntimeError(
            "jaxswap.profile needs a GPU, and the device is "
            f"{describe_device(device)}. Run it on a machine with one. Without one, "
            "plan.to_perfetto(path) shows the simulated step, and "
            "jaxswap.inspect(step, *args, target='h100') the compiled one."
        )
    plan = plan or followed_plan(step)
    compiled = step
    if isinstance(compiled, jax.stages.Wrapped):
        compiled = compiled.lower(*args, **kwargs).compile()
    planes = record(compiled, args, repeats, kwargs)
    program = parse_module(compiled.as_text() or "")
    return Profile(device.device_kind, read_steps(planes, program), plan)


def followed_plan(step: Any) -> Plan | None:
    """Return the plan that was given to `jaxswap.offload` for a function.

    Args:
        step: A function, or what `jax.jit` and `jax.grad` made of it.

    Returns:
        The plan. `None` if there is none, or if something else is around the function.
    """
    while step is not None:
        plan = getattr(step, "__jaxswap_plan__", None)
        if plan is not None:
            return plan
        step = getattr(step, "__wrapped__", None)
    return None
