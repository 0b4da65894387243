"""The transform: `offload(fn)`."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack, overload

import jax
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero

from jaxswap._base.arguments import refuse_keywords
from jaxswap._device.resolve import default_device
from jaxswap._gpu.target import Target
from jaxswap._graph.compress import checked_compress
from jaxswap._graph.graph import Action, Value
from jaxswap._graph.placement import Placement
from jaxswap._plans.plan import Plan
from jaxswap._run.machine import Machine
from jaxswap._run.passes import Passes
from jaxswap._run.pushforward import derivative, is_pushed
from jaxswap._run.source import Source
from jaxswap._schedule.decision import Policy
from jaxswap._scheduler import Scheduler, kept, refuse_wrong_slices, scheduler
from jaxswap._slabs.slabs import AUTO, Cut, Slabs, parse_slabs
from jaxswap._trace.function import Arguments, FlatFunction, flatten_function
from jaxswap._trace.known import Known
from jaxswap._trace.shardings import (
    broadcast_prefix,
    checked_shardings,
    placement_from,
    placement_of,
)
from jaxswap._trace.static import NOTHING_STATIC, Static

P = ParamSpec("P")
R = TypeVar("R")


class OffloadOptions(TypedDict, total=False):
    """The keywords that `jaxswap.offload` and its versions for Flax share.

    For functions that pass them on: `**options: Unpack[OffloadOptions]`.
    """

    policy: Policy | Action | Callable[[Value], Action] | None
    plan: Plan | None
    budget: int | str | None
    reserve: int | str
    host_budget: int | str | None
    target: str | Target | None
    slabs: Slabs | str | None
    compress: str | None
    pieces: int | None


class _Options(OffloadOptions, total=False):
    in_shardings: Any
    static_argnums: int | Sequence[int]
    static_argnames: str | Sequence[str]


@overload
def offload(fn: Callable[P, R], **options: Unpack[_Options]) -> Callable[P, R]: ...


@overload
def offload(
    fn: None = None, **options: Unpack[_Options]
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def offload(
    fn: Callable[..., Any] | None = None,
    *,
    policy: Policy | Action | Callable[[Value], Action] | None = None,
    plan: Plan | None = None,
    budget: int | str | None = None,
    reserve: int | str = 0,
    host_budget: int | str | None = None,
    target: str | Target | None = None,
    slabs: Slabs | str | None = AUTO,
    compress: str | None = None,
    pieces: int | None = None,
    in_shardings: Any = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    **unknown: Any,
) -> Callable[..., Any]:
    """Make a function whose gradient fits into the memory that the GPU has.

    If everything fits, everything is kept, and nothing is slower. If not, the fastest
    plan that fits is followed. A `budget` asks for less memory.

    The backward pass reads values of the forward pass. Between the passes these values
    hold device memory. Here each of them is kept on the device, swapped to pinned host
    memory, or recomputed. Value and gradient stay the same. The copies are placed
    between heavy operations (matrix products, convolutions, kernels). Barriers make XLA
    start them early enough and finish them late enough to overlap.

    Use it like `jax.checkpoint`, but on the whole loss: the transform looks at all
    values of the function at once. It does not help if activations are small compared
    with parameters, nor on CPU, where host and device memory are the same.

    Without `jax.jit`, `fn` is traced once for each combination of argument types, and
    its values are decided on once. `fn` is traced again if a variable that it reads has
    changed: a captured or global one, or an attribute or entry of an object in one.
    (`jax.checkpoint` would not see that. Nor does a step under `jax.jit`, which JAX
    traces once.) Not seen are changes inside of installed packages, and random numbers
    that do not come from a key.

    Compile the step with `jaxswap.jit`. With `jax.jit`, XLA runs copies and computation
    one after the other on GPUs before Hopper.

    Args:
        fn: A function of arrays, pytrees of arrays and anything else. Arrays that it
            captures are differentiated like arguments. It is traced, so it must not
            branch on the value of an array. In forward mode (`jax.jvp`) and for the
            derivative of a gradient, it does what it does in plain JAX.
        policy: The action of each value. A function of a
            `jaxswap.Value` that returns a `jaxswap.Action`: it is asked once for each
            forward value (the inputs of a recomputation are stored or recomputed, too).
            A `jaxswap.Action`: it holds for all values. Or a policy object such as
            `jaxswap.LMS()`.
        plan: Follow this plan. `jaxswap.plan` must have made it for the same function
            and arguments of the same types.
        budget: Device memory of value and gradient together (arguments, results and
            temporaries), such as `"12GiB"` or a number of bytes. When the function is
            traced, a plan is made for each set of argument types. It is compiled to
            check it. See `jaxswap.plan`.
        reserve: The part of the budget that something else needs, such as the
            optimizer's state.
        host_budget: Pinned host memory that the plan may use on each device. `None`: as
            much as there is.
        target: The GPU to plan for. `None`: JAX's default device, and without a
            `budget` the memory that is free there when the function is traced. If that
            device is no GPU, or several processes run the program, nothing is planned:
            what is done then is `jaxswap.policies.SwapHeavy`, if that saves memory.
            A function that makes no value of 1 MiB, and less than 32 MiB in total, is
            left as it is.
        slabs: Compute the finest values slab by slab, as `jaxswap.Slabs` says. What
            sweeps over the slabs store is kept, swapped or recomputed like all other
            values. `"auto"`: where a plan is made that does not fit otherwise, or is
            slow, slabs are tried. `"2x16"` stands for two levels in 16 slabs, and
            `None` for no slabs. A `plan` holds its slabs.
        compress: Round real numbers that leave to `"bfloat16"`, `"float8_e4m3fn"` or
            `"int8"`, so that their copies are a half or a quarter as large. They come
            back with fewer digits, and the gradient changes by that. Types of 8 bits
            have a scale for each channel (the last axis). Other types, and those that
            are not wider, leave as they are. `None`: all leave as they are. A `plan`
            holds what it was made with.
        pieces: Where a plan is made, cut large values into so many pieces, each of
            which is kept or swapped by itself. See `jaxswap.plan`.
        in_shardings: How `jax.jit` splits the positional arguments over a mesh of
            devices, a pytree prefix of them as in `jax.jit(fn, in_shardings=...)`.
            Under `jit` with automatic axes, a trace does not see how arguments are
            split. Without `in_shardings` gradients are still right. But their
            all-reduces are not combined, and a budget counts arguments as if each
            device held them whole. Explicit axes do not need it. Neither does a plan
            that was made for arguments with shardings.
        static_argnums: Arguments that hold no arrays. For calls written for
            `jax.checkpoint`. It is not needed: whatever is no array is passed on as it
            is.
        static_argnames: The same, for keyword arguments.
        **unknown: Refused. For those of `jax.checkpoint` the error says why.

    Returns:
        A function with the signature of `fn`. Without `fn`, a decorator. If it is not
        differentiated, the function does what `fn` does, by slabs if there are any.

    Raises:
        TypeError: If `fn` is not callable or `policy` is none of the above. When
            called, if a static argument holds an array.
        ValueError: If several of `policy`, `plan` and `budget` are given, if one cannot
            be read, or if an argument has no effect beside the others. When called, if
            the plan was made for other arguments.
        jaxswap.BudgetError: When called, if nothing fits into the budget.
        jaxswap.HostMemoryError: When called, if the plan needs more pinned host memory
            than there is.
        NotImplementedError: When called, if `fn` reads or writes a mutable array, or
            if `slabs` is given and arguments are split over devices.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> def loss(w, x):
        ...     return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)
        >>> w, x = jnp.eye(4), jnp.ones((2, 4))
        >>> grad = jax.jit(jax.grad(jaxswap.offload(loss)))
        >>> bool(jnp.array_equal(grad(w, x), jax.jit(jax.grad(loss))(w, x)))
        True
        >>> offload_large = lambda value: (
        ...     jaxswap.OFFLOAD if value.nbytes > 2**24 else jaxswap.KEEP
        ... )
        >>> grad = jax.jit(jax.grad(jaxswap.offload(loss, policy=offload_large)))

    References:
        Le et al. 2018, "TFLMS: Large Model Support in TensorFlow by Graph
        Rewriting"; Imai et al. 2018, "Fast and Accurate 3D Medical Image
        Segmentation with Data-swapping Method".
    """
    if unknown:
        refuse_keywords(unknown)
    chosen = scheduler(policy, plan, budget, reserve, host_budget, target, pieces)
    checked_shardings(in_shardings)
    cut = parse_slabs(slabs)
    static = Static.of(static_argnums, static_argnames)
    narrow = checked_compress(compress)
    if plan is not None:
        _refuse_beside_a_plan(cut, narrow, in_shardings)
    if fn is None:
        return functools.partial(
            offload,
            policy=policy,
            plan=plan,
            budget=budget,
            reserve=reserve,
            host_budget=host_budget,
            target=target,
            slabs=slabs,
            compress=compress,
            pieces=pieces,
            in_shardings=in_shardings,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
        )
    if not callable(fn):
        raise TypeError(f"`fn` is {fn!r}; jaxswap.offload needs a function.")

    cut = cut if plan is None else plan.slabs
    return _wrap(fn, chosen, static, plan, in_shardings, cut, narrow)


def _refuse_beside_a_plan(cut: Cut, narrow: str, in_shardings: Any) -> None:
    """Refuse what a plan holds already."""
    if isinstance(cut, Slabs):
        raise ValueError(
            "`plan` and `slabs` are given. Give only `plan`: it holds the slabs that "
            "it was made for."
        )
    if narrow:
        raise ValueError(
            "`plan` and `compress` are given. Make the plan with `compress`: "
            f"jaxswap.plan(..., compress={narrow!r})."
        )
    if in_shardings is not None:
        raise ValueError(
            "`plan` and `in_shardings` are given. Give only `plan`: it holds the "
            "shardings of the arguments that it was made for."
        )


def _wrap(
    fn: Callable[..., Any],
    scheduler: Scheduler,
    static: Static = NOTHING_STATIC,
    plan: Plan | None = None,
    in_shardings: Any = None,
    slabs: Cut = None,
    compress: str = "",
) -> Callable[..., Any]:
    """Return `fn` with a gradient that follows the schedules of a scheduler."""

    def traced(arguments: Arguments) -> _Call:
        flat, closed_over = flatten_function(fn, arguments)
        split = functools.cache(_differentiable(flat, scheduler, slabs, compress))
        return _Call(closed_over, flat, split)

    known = Known(fn, traced, holds_tracer=lambda call: call.captures_tracer)

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        static.check(args, kwargs, _is_array)
        arguments = Arguments.of(args, kwargs, _is_array)
        call = known.of(arguments)
        operands = (*call.closed_over, *arguments.arrays)
        if is_pushed(operands):
            results = call.flat.call(*operands)
        else:
            placement = _placement(operands, plan, in_shardings, args, kwargs)
            results = call.split(placement)(*operands)
        return jax.tree.unflatten(call.flat.out_tree, results)

    vars(wrapped)["__jaxswap_plan__"] = plan  # `jaxswap.profile` finds it there
    return wrapped


@dataclasses.dataclass(frozen=True, eq=False)
class _Call:
    """What a function was traced to.

    Attributes:
        closed_over: The arrays that the function captures.
        flat: The function of these and of the arrays among its arguments.
        split: Returns the function whose gradient follows a schedule, for operands that
            are split over a mesh as its argument says.
    """

    closed_over: tuple[Any, ...]
    flat: FlatFunction
    split: Callable[[Placement | None], Callable[..., Any]]

    @property
    def captures_tracer(self) -> bool:
        """Whether one of the captured arrays belongs to a trace."""
        return any(isinstance(x, Tracer) for x in self.closed_over)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array)


def _placement(
    operands: Sequence[Any],
    plan: Plan | None,
    in_shardings: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Placement | None:
    """Return how the operands are split over a mesh. `None` if nothing says so."""
    if plan is not None:
        fits = plan.placement is not None and len(plan.placement.operands) == len(
            operands
        )
        return plan.placement if fits else None
    if in_shardings is None:
        return placement_of(operands)
    named = [None] * len(jax.tree.leaves(kwargs))
    try:
        given = [*broadcast_prefix(in_shardings, args), *named]
    except ValueError as error:
        raise ValueError(
            f"`in_shardings` does not fit the positional arguments: {error}"
        ) from error
    leaves = jax.tree.leaves((args, kwargs))
    arrays = [s for s, x in zip(given, leaves, strict=True) if _is_array(x)]
    captured_count = len(operands) - len(arrays)
    return placement_from(operands, [*[None] * captured_count, *arrays])


def _differentiable(
    flat: FlatFunction,
    scheduler: Scheduler,
    slabs: Cut,
    compress: str,
) -> Callable[[Placement | None], Callable[..., Any]]:
    """Turn a flat function into one whose gradient follows a schedule.

    What this returns holds no array of any call: JAX may keep it.
    """

    def split(placement: Placement | None) -> Callable[..., Any]:
        is_cut = isinstance(slabs, Slabs)
        if placement is None and not is_cut and scheduler.leaves(flat):
            return flat.call

        @functools.cache
        def passes(*perturbed: bool) -> Passes:
            refuse_wrong_slices(default_device().platform)
            source = Source(flat, perturbed, placement, slabs=slabs, compress=compress)
            return Passes(scheduler.decide(source), flat.call)

        @functools.cache
        def by_slabs() -> Machine:
            refuse_wrong_slices(default_device().platform)
            unperturbed = [False] * len(flat.types)
            return kept(Source(flat, unperturbed, placement, slabs=slabs))

        def call(*operands: Any) -> Sequence[Any]:
            if not is_cut:
                return flat.call(*operands)
            return by_slabs().forward(operands)[0]

        def rule(primals: Any, tangents: Any) -> Any:
            moving = (not isinstance(t, SymbolicZero) for t in tangents)
            return derivative(passes(*moving), primals, tangents)

        differentiable = jax.custom_jvp(call)
        differentiable.defjvp(rule, symbolic_zeros=True)
        return differentiable

    return split
