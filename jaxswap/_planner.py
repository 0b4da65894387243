"""Function, arguments and budget -> `Plan`."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxswap._gpu.node import Node
from jaxswap._gpu.target import Target
from jaxswap._graph.graph import Action, Value
from jaxswap._plans.plan import Plan
from jaxswap._request import MOST_COMPILES, Request
from jaxswap._run.loss import loss_source
from jaxswap._schedule.decision import Policy
from jaxswap._search.refine import Progress
from jaxswap._search.search import SEARCH_SECONDS
from jaxswap._slabs.slabs import AUTO, Slabs, parse_slabs


def plan(
    fn: Callable[..., Any],
    *args: Any,
    budget: int | str | None = None,
    target: str | Target | Node | None = None,
    policy: Policy | Action | Callable[[Value], Action] | None = None,
    reserve: int | str = 0,
    host_budget: int | str | None = None,
    compress: str | None = None,
    pieces: int | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    compile: bool = True,
    most_compiles: int = MOST_COMPILES,
    search_seconds: float = SEARCH_SECONDS,
    progress: bool | Progress = True,
    slabs: Slabs | str | None = AUTO,
    **kwargs: Any,
) -> Plan:
    """Choose an action for each forward value, so that a training step fits a budget.

    Every large forward value is kept on the device, swapped to pinned host memory, or
    recomputed. The simulated step is to be as fast as possible, while its device memory
    stays within the budget all the time. Then the plan is compiled for the GPU, which
    need not be in this machine, and corrected by what the compiled program needs.

    Plans are remembered on disk (see `jaxswap.clear_plans`), by program, budget, target
    and versions. So the same call again takes only the time of a trace.

    Args:
        fn: The loss: a function whose (first) result is a scalar.
        *args: Its arguments: arrays, `jax.ShapeDtypeStruct` or pytrees of them.
            Nothing is executed.
        budget: Device memory of the compiled `value_and_grad` of `fn`: arguments,
            results and temporaries. `"12GiB"`, `"12GB"`, a number of bytes, or
            `"smallest"` for the fastest plan that needs at most 1 % more than the least
            memory. `None`: all of the GPU's.
        target: The GPU: a name, a `jaxswap.Target`, or `None` for JAX's default
            device. That one is at hand, so each heavy operation that it does not know
            yet is timed once. The times are saved with the target. Or a machine
            (`"dgx-h100"`, a `jaxswap.Node`). Then the plan is for one of its GPUs. As
            many GPUs as the arguments are split over share its links and its memory.
        policy: Plan by this policy instead: one of `jaxswap.policies`, or what
            `jaxswap.offload` takes.
        reserve: The part of the budget that something else needs, such as the
            optimizer's state.
        host_budget: Pinned host memory that the plan may use on each device. `None`:
            as much as there is.
        compress: Round real numbers that leave to `"bfloat16"`, `"float8_e4m3fn"` or
            `"int8"`, so that their copies are a half or a quarter as large. They come
            back with fewer digits, and the gradient changes by that. Types of 8 bits
            have a scale for each channel (the last axis). Other types, and those that
            are not wider, leave as they are. `None`: all leave as they are.
        pieces: Into how many pieces large values may be cut, each of which is kept or
            swapped by itself. So a part of a value leaves where a copy of all of it
            takes too long. Cutting and joining take time and memory, which count: few
            programs gain by it. Not for values in loops. `None`: values stay whole.
        argnums: Which arguments are differentiated, as in `jax.value_and_grad`.
        has_aux: Whether `fn` returns a pair of the loss and something else.
        compile: Whether to compile plans. If not, bytes are those of the simulation.
        most_compiles: How many programs to compile at most.
        search_seconds: How much to search below one limit. A second stands for a number
            of drafts, and is not timed: the plan is the same on every machine.
        progress: Whether to write to stderr what happens. Or a function that is given
            each line.
        slabs: Compute the finest values slab by slab, as `jaxswap.Slabs` says. Each
            sweep over the slabs counts as one operation, and what sweeps store is kept,
            swapped or recomputed like all other values. `"auto"`: a few settings
            are tried if a budget in bytes cannot be met otherwise, or only by a step
            that is slow. This asks for a convolution, which tells the axis, and for
            arguments on one device. `"2x16"` stands for two levels in 16 slabs, and
            `None` for no slabs.
        **kwargs: Further arguments of `fn`.

    Returns:
        The plan.

    Raises:
        jaxswap.BudgetError: If nothing fits. It names the smallest budget that works,
            and what holds the memory then.
        jaxswap.HostMemoryError: If the plan needs more pinned host memory than
            `host_budget`, or than this machine and XLA's pool have.
        TypeError: If `fn` is not callable or does not return a scalar.
        ValueError: If an argument cannot be understood or has no effect beside the
            others, if `target` is unknown, or if it is `None` on a machine without a
            GPU. If `slabs` is given, and nothing tells which axis to cut.
        NotImplementedError: If `slabs` is given, and arguments are split over devices.
        ImportError: If the GPU is not in this machine and JAX's CUDA plugin is not
            installed (`pip install "jaxswap[gpu-targets]"`).

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> def loss(weights, x):
        ...     for w in weights:
        ...         x = jnp.tanh(x @ w)
        ...     return jnp.sum(x ** 2)
        >>> x = jax.ShapeDtypeStruct((65536, 1024), jnp.float32)
        >>> weights = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32)] * 4
        >>> plan = jaxswap.plan(
        ...     loss, weights, x, budget="1.5GiB", target="h100", compile=False)
        >>> plan.device_bytes <= 1.5 * 2**30
        True
        >>> grad = jax.grad(jaxswap.offload(loss, plan=plan))

    References:
        Le et al. 2018 (TFLMS), Jain et al. 2020 (Checkmate), Beaumont et al. 2021
        (offload and rematerialization together). The page "How it works" describes the
        simulator, the model and the loop with the compiler.
    """
    if not callable(fn):
        raise TypeError(f"`fn` is {fn!r}; jaxswap.plan needs a function.")
    request = Request(
        budget=budget,
        target=target,
        policy=policy,
        reserve=reserve,
        host_budget=host_budget,
        compress=compress,
        pieces=pieces,
        compile=compile,
        most_compiles=most_compiles,
        search_seconds=search_seconds,
        progress=progress,
    )
    with request.for_its_gpu():
        source = loss_source(fn, args, kwargs, argnums, has_aux)
        return request.plan(source.cut(parse_slabs(slabs)))
