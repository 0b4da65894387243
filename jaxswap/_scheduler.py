"""The keywords of `offload` -> what decides how a function runs."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxswap._base.arguments import refuse_idle
from jaxswap._base.units import format_bytes, parse_bytes
from jaxswap._base.xla_flags import ARE_SLICES_RIGHT, FLAG, PASS
from jaxswap._device.resolve import default_device, find_target, free_bytes
from jaxswap._gpu.target import Target, built_in_target, rates_of
from jaxswap._graph.graph import Action, Value
from jaxswap._graph.pieces import checked_pieces
from jaxswap._plans.plan import Plan, checked_plan
from jaxswap._request import Request
from jaxswap._run.machine import Machine
from jaxswap._run.source import Source
from jaxswap._schedule.decision import Policy, loops_by
from jaxswap._schedule.issue import schedule
from jaxswap._schedule.policy import as_policy
from jaxswap._schedule.swap_heavy import SwapHeavy
from jaxswap._search.ways import keep_all
from jaxswap._simulate.draft import Arranger
from jaxswap._simulate.simulate import Simulator
from jaxswap._trace.describe import Traced
from jaxswap._trace.function import FlatFunction
from jaxswap._trace.made import made_by


@dataclasses.dataclass(frozen=True)
class Scheduler:
    """Decides how a function runs.

    Attributes:
        decide: Called when the function is differentiated. Returns what runs it.
        leaves: Whether a function runs as in plain JAX, whatever is differentiated.
    """

    decide: Callable[[Source], Machine]
    leaves: Callable[[FlatFunction], bool] = lambda flat: False


LITTLE_BYTES = 1 << 25
"""Whoever has no room for this much has no room for the program itself."""
CERTAIN_SHARE = 0.9
"""A program that is simulated to need at most this share of the memory there is fits
without being compiled."""


def scheduler(
    policy: Policy | Action | Callable[[Value], Action] | None,
    plan: Plan | None,
    budget: int | str | None,
    reserve: int | str,
    host_budget: int | str | None,
    target: str | Target | None,
    pieces: int | None = None,
) -> Scheduler:
    """Return what decides how a function runs, as the keywords of `offload` say."""
    given = {"policy": policy, "plan": plan, "budget": budget}
    named = [f"`{name}`" for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ValueError(
            f"{' and '.join(named)} are given; they exclude one another. To plan by a "
            "policy within a budget, use jaxswap.plan(..., policy=..., budget=...)."
        )
    reserve_bytes = parse_bytes(reserve, "reserve")
    is_whole = checked_pieces(pieces) == 1
    if host_budget is not None:
        parse_bytes(host_budget, "host_budget")
    if plan is not None:
        decide = functools.partial(_followed, checked_plan(plan))
    elif policy is not None:
        decide = functools.partial(_by_policy, as_policy(policy))
    elif budget is not None:
        request = Request(
            budget=budget,
            reserve=reserve,
            host_budget=host_budget,
            target=target,
            pieces=pieces,
        )
        return Scheduler(lambda source: _followed(request.plan(source), source))
    else:
        room = {"reserve": reserve, "host_budget": host_budget}
        decide = functools.partial(_by_what_fits, target, room, pieces)
        is_for_any = target is None and not reserve_bytes and host_budget is None
        return Scheduler(decide, _makes_little) if is_for_any else Scheduler(decide)
    refuse_idle(
        {
            f"`target` and {named[0]}": target is not None,
            f"`reserve` and {named[0]}": reserve_bytes != 0,
            f"`host_budget` and {named[0]}": host_budget is not None,
            f"`pieces` and {named[0]}": not is_whole,
        }
    )
    return Scheduler(decide)


def refuse_wrong_slices(platform: str, *, are_right: bool = ARE_SLICES_RIGHT) -> None:
    """Refuse to differentiate where XLA would copy wrong slices of host arrays.

    Args:
        platform: Of the device.
        are_right: Whether XLA copies the right ones.

    Raises:
        RuntimeError: If it does not. The text says what to do.
    """
    if not are_right and platform == "gpu":
        raise RuntimeError(
            "jaxswap was imported after JAX had started the GPU, so XLA did not see "
            "the flag without which this jaxlib computes wrong gradients of loops "
            "(github.com/openxla/xla/pull/46231). Import jaxswap first, set "
            f"XLA_FLAGS={FLAG}={PASS}, or install jaxlib 0.11.1 or newer."
        )


def _makes_little(flat: FlatFunction) -> bool:
    """Whether a function makes nothing that is worth a copy, nor much in total."""
    made = made_by(flat.jaxpr)
    return (
        made is not None
        and made.largest_bytes < SwapHeavy().min_bytes
        and made.total_bytes < LITTLE_BYTES
    )


def _by_what_fits(
    target: str | Target | None,
    room: Mapping[str, int | str | None],
    pieces: int | None,
    source: Source,
) -> Machine:
    """Keep everything if it fits into the GPU, else follow the fastest plan that does.

    Without a GPU there is nothing to plan for, and symbolic dimensions have no bytes.
    Processes that share a program would each find another plan.
    """
    if source.symbols:
        return _by_policy(SwapHeavy(), source)
    gpu = _gpu(target)
    reserve_bytes = parse_bytes(room["reserve"] or 0, "reserve")
    if gpu is None and reserve_bytes:
        raise ValueError(
            f"`reserve` is {format_bytes(reserve_bytes)}, but there is no GPU to plan "
            "for here, of whose memory it could be a part. Give `target` or `budget`."
        )
    if gpu is None and room["host_budget"] is not None:
        raise ValueError(
            f"`host_budget` is {room['host_budget']!r}, but there is no GPU to plan "
            "for here. Give `target` or `budget`."
        )
    if gpu is None:
        return _if_it_saves_memory(SwapHeavy(), source)
    traced = source.traced(keep_all)
    kept = Arranger(traced.graph, rates_of(gpu)).all_kept.timeline
    memory_bytes = gpu.memory_bytes
    if target is None:
        memory_bytes = _memory_bytes(kept.caller_bytes)
    if kept.device_bytes <= CERTAIN_SHARE * (memory_bytes - reserve_bytes):
        return _laid_out(as_policy(Action.KEEP), traced)
    request = Request(
        budget=memory_bytes,
        reserve=reserve_bytes,
        host_budget=room["host_budget"],
        target=target,
        pieces=pieces,
    )
    return _followed(request.plan(source), source)


def _gpu(target: str | Target | None) -> Target | None:
    """Return the GPU to plan for, or `None` if there is none."""
    if target is not None:
        return find_target(target)
    if default_device().platform != "gpu" or jax.process_count() > 1:
        return None
    try:
        return find_target(None)
    except ValueError as error:
        warnings.warn(
            f"jaxswap.offload cannot plan for this machine: {error} Until then "
            "jaxswap.policies.SwapHeavy decides, which may swap more than is needed.",
            stacklevel=2,
        )
        return None


def _memory_bytes(caller_bytes: int) -> int:
    """Return the memory that the program may take on the GPU of this machine.

    Its arguments are there already, and count as in use.
    """
    device: Any = default_device()
    used_bytes = (device.memory_stats() or {}).get("bytes_in_use", 0)
    return free_bytes(device) + min(caller_bytes, used_bytes)


def _if_it_saves_memory(policy: SwapHeavy, source: Source) -> Machine:
    """Lay a function out as a policy says, or keep everything if that needs no more.

    Memory depends on the order of operations alone, so any GPU's rates will do.
    """
    traced = source.traced(loops_by(policy))
    kept = _laid_out(as_policy(Action.KEEP), traced)
    values = traced.graph.values
    residual_bytes = sum(values[v].nbytes for v in traced.graph.residuals())
    if residual_bytes < policy.min_bytes:
        return kept
    machine = _laid_out(policy, traced)
    simulator = Simulator(machine.graph, rates_of(built_in_target("h100")))
    needed = simulator.play(machine.schedule).device_bytes
    saved_bytes = simulator.play(kept.schedule).device_bytes - needed
    return machine if saved_bytes >= policy.min_bytes else kept


def kept(source: Source) -> Machine:
    """Trace a function, and lay it out so that every value is kept."""
    return _laid_out(as_policy(Action.KEEP), source.traced(keep_all))


def _by_policy(policy: Policy, source: Source) -> Machine:
    """Trace a function, and lay it out as a policy says."""
    return _laid_out(policy, source.traced(loops_by(policy)))


def _laid_out(policy: Policy, traced: Traced) -> Machine:
    """Lay out a traced function as a policy says."""
    decision = policy.decide(traced.graph)
    return Machine(traced, schedule(traced.graph, decision.actions, decision.timing))


def _followed(plan: Plan, source: Source) -> Machine:
    """Trace a function with loops as a plan runs them, and lay it out by the plan."""
    values = plan.graph.values
    source = source.cut(plan.slabs, plan.graph.pieces)
    source = source.sized_as([values[v].shape for v in plan.graph.arguments])
    source = dataclasses.replace(source, compress=plan.graph.compress)
    try:
        return _by_plan(plan, source)
    except ValueError as error:
        if source.symbols:
            error.add_note(
                f"The symbolic dimensions ({', '.join(source.symbols)}) count as in "
                f"the plan: {dict(source.sizes)}. If the types fit, JAX traces another "
                "program for symbolic dimensions: give a policy, or export for one "
                "size."
            )
        raise


def _by_plan(plan: Plan, source: Source) -> Machine:
    traced = source.traced(plan.segments_of, plan.graph.inside)
    return Machine(traced, plan.schedule_of(traced.graph))
