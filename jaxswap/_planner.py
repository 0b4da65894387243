"""Function, arguments and budget -> `Plan`."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from jaxswap._base.units import parse_bytes
from jaxswap._gpu.node import Node
from jaxswap._gpu.target import Target
from jaxswap._graph.graph import Action, Value
from jaxswap._plans.plan import Plan
from jaxswap._request import SMALLEST, Progress, Request
from jaxswap._run.loop import DecideLoop, Loops, Traced
from jaxswap._run.step import flatten_loss
from jaxswap._schedule.policy import Policy, as_policy
from jaxswap._search.search import SEARCH_SECONDS
from jaxswap._trace.partial_sums import placed
from jaxswap._trace.program import Program, trace


def plan(
    fn: Callable[..., Any],
    *args: Any,
    budget: int | str | None = None,
    target: str | Target | Node | None = None,
    policy: Policy | Action | Callable[[Value], Action] | None = None,
    reserve: int | str = 0,
    host_budget: int | str | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    compile: bool = True,
    most_compiles: int = 4,
    search_seconds: float = SEARCH_SECONDS,
    progress: bool | Progress = True,
    **kwargs: Any,
) -> Plan:
    """Decide what becomes of each forward value so that a training step fits a budget.

    Every large forward value is kept on the device, swapped to pinned host memory, or
    computed again, so that the simulated step is as fast as can be while its device
    memory stays within the budget at every point. The plan is then compiled for the
    GPU, which need not be there, and corrected by what the compiled program needs.

    A plan that was found is remembered on disk (see `jaxswap.clear_plans`), by
    program, budget, target and versions: the same call again costs a trace.

    Args:
        fn: The loss: a function whose (first) result is a scalar.
        *args: Its arguments: arrays, `jax.ShapeDtypeStruct` or pytrees of them;
            nothing is executed.
        budget: Device memory of the compiled `value_and_grad` of `fn`: arguments,
            results and temporaries. `"12GiB"`, `"12GB"`, a number of bytes, or
            `"smallest"` for the plan that needs least. `None`: all of the GPU's.
        target: The GPU: a name, a `jaxswap.Target`, or `None` for JAX's default
            device. A machine (`"dgx-h100"`, a `jaxswap.Node`): its GPUs, which share
            its links and its memory among as many as the arguments are split over.
        policy: Plan by this policy instead: one of `jaxswap.policies`, or what
            `jaxswap.offload` takes.
        reserve: The part of the budget that something else needs, such as the
            optimizer's state.
        host_budget: Pinned host memory that the plan may use on each device; `None`:
            what there is.
        argnums: Which arguments are differentiated, as in `jax.value_and_grad`.
        has_aux: Whether `fn` returns a pair of the loss and something else.
        compile: Whether to compile plans. Without, bytes are those of the simulation.
        most_compiles: How many programs to compile at most.
        search_seconds: Processor time to search below one limit; more can find a
            faster plan.
        progress: Whether to write what is going on to stderr, or a function that is
            given each line.
        **kwargs: Further arguments of `fn`.

    Returns:
        The plan.

    Raises:
        jaxswap.BudgetError: If nothing fits; names the smallest budget that does and
            what holds the memory then.
        jaxswap.HostMemoryError: If the plan needs more pinned host memory than
            `host_budget`, or than this machine and XLA's pool have.
        TypeError: If `fn` is not callable or does not return a scalar.
        ValueError: If an argument cannot be understood, or `target` is unknown, or it
            is `None` where there is no GPU.
        ImportError: If a GPU that is not there is to be compiled for without JAX's
            CUDA plugin (`pip install "jaxswap[gpu-targets]"`).

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> def loss(weights, x):
        ...     for w in weights:
        ...         x = jnp.tanh(x @ w)
        ...     return jnp.sum(x ** 2)
        >>> x = jax.ShapeDtypeStruct((65536, 1024), jnp.float32)
        >>> weights = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32)] * 8
        >>> plan = jaxswap.plan(
        ...     loss, weights, x, budget="2GiB", target="h100", compile=False)
        >>> plan.device_bytes <= 2 * 2**30
        True
        >>> grad = jax.grad(jaxswap.offload(loss, plan=plan))

    References:
        Le et al. 2018 (TFLMS), Jain et al. 2020 (Checkmate), Beaumont et al. 2021
        (offload and rematerialization together); the simulator, the model and the
        loop are described in `_simulate.py`, `_model.py` and `_refine.py`.
    """
    if not callable(fn):
        raise TypeError(f"`fn` is {fn!r}; jaxswap.plan needs a function.")
    flat, perturbed, placement = flatten_loss(fn, args, kwargs, argnums, has_aux)

    def traced(decide_loop: DecideLoop) -> Program:
        loops = Loops(decide_loop)
        call = flat.scanned(loops)
        program = trace(call, flat.operands, perturbed, flat.out_avals, loops.found)
        return placed(program, placement)

    planned = plan_program(
        budget=budget,
        target=target,
        policy=policy,
        reserve=reserve,
        host_budget=host_budget,
        compile=compile,
        most_compiles=most_compiles,
        search_seconds=search_seconds,
        progress=progress,
    )
    return planned(traced)


def plan_program(
    *,
    budget: int | str | None = None,
    target: str | Target | Node | None = None,
    policy: Policy | Action | Callable[[Value], Action] | None = None,
    reserve: int | str = 0,
    host_budget: int | str | None = None,
    compile: bool = True,
    most_compiles: int = 4,
    search_seconds: float = SEARCH_SECONDS,
    progress: bool | Progress = True,
) -> Callable[[Traced], Plan]:
    """Check the arguments of `plan`; return what plans a program by them."""
    request = Request(
        budget_bytes=_budget_bytes(budget),
        reserve_bytes=parse_bytes(reserve, "reserve"),
        host_budget_bytes=(
            None if host_budget is None else parse_bytes(host_budget, "host_budget")
        ),
        target=target,
        policy=None if policy is None else as_policy(policy),
        compile=compile,
        most_compiles=_at_least_one(most_compiles, "most_compiles"),
        search_seconds=search_seconds,
        progress=_progress(progress),
    )
    return request.plan


def _budget_bytes(budget: int | str | None) -> int | None:
    if budget is None:
        return None
    if isinstance(budget, str) and budget.strip().lower() == "smallest":
        return SMALLEST
    return parse_bytes(budget, "budget")


def _at_least_one(count: int, name: str) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"`{name}` is {count!r}; an integer of at least 1 is needed.")
    return count


def _progress(progress: bool | Progress) -> Progress:
    if callable(progress):
        return progress
    if progress:
        return _write
    return lambda line: None


def _write(line: str) -> None:
    sys.stderr.write(f"jaxswap: {line}\n")
    sys.stderr.flush()
