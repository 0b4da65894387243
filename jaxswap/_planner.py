"""Function, arguments and budget -> `Plan`."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jaxswap import _plan_cache, policies
from jaxswap._arrange import Arranger, Draft
from jaxswap._budget import BudgetError
from jaxswap._calibrate import resolve_target
from jaxswap._candidates import SMALL_SHARE, find_candidates
from jaxswap._evidence import Evidence, inspect
from jaxswap._graph import Action, Graph, Value
from jaxswap._host_memory import check_host_memory
from jaxswap._ladder import RUNGS, Ladder, keep_all
from jaxswap._loop import DecideLoop, Loops, Traced
from jaxswap._options import compiler_options
from jaxswap._partial_sums import placed
from jaxswap._placement import Placement
from jaxswap._plan import Plan
from jaxswap._policy import ByValue, Policy, as_policy
from jaxswap._refine import Compile, Refined, refine
from jaxswap._search import SEARCH_SECONDS, Search
from jaxswap._signature import signature_of
from jaxswap._step import flatten_loss, step_of, types_of
from jaxswap._target import Target, rates_of
from jaxswap._trace import Program, trace
from jaxswap._tuning import tune
from jaxswap._units import format_bytes, parse_bytes
from jaxswap._values import graph_of

Progress = Callable[[str], None]


def plan(
    fn: Callable[..., Any],
    *args: Any,
    budget: int | str | None = None,
    target: str | Target | None = None,
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
        fn: the loss: a function whose (first) result is a scalar.
        *args: its arguments: arrays, `jax.ShapeDtypeStruct` or pytrees of them;
            nothing is executed.
        budget: device memory of the compiled `value_and_grad` of `fn`: arguments,
            results and temporaries. `"12GiB"`, `"12GB"`, a number of bytes, or
            `"smallest"` for the plan that needs least. `None`: all of the GPU's.
        target: the GPU: a name, a `jaxswap.Target`, or `None` for JAX's default
            device.
        policy: plan by this policy instead: one of `jaxswap.policies`, or what
            `jaxswap.offload` takes.
        reserve: the part of the budget that something else needs, such as the
            optimizer's state.
        host_budget: pinned host memory that the plan may use; `None`: what there is.
        argnums: which arguments are differentiated, as in `jax.value_and_grad`.
        has_aux: whether `fn` returns a pair of the loss and something else.
        compile: whether to compile plans. Without, bytes are those of the simulation.
        most_compiles: how many programs to compile at most.
        search_seconds: processor time to search below one limit; more can find a
            faster plan.
        progress: whether to write what is going on to stderr, or a function that is
            given each line.
        **kwargs: further arguments of `fn`.

    Returns:
        The plan.

    Raises:
        jaxswap.BudgetError: if nothing fits; names the smallest budget that does and
            what holds the memory then.
        jaxswap.HostMemoryError: if the plan needs more pinned host memory than
            `host_budget`, or than this machine and XLA's pool have.
        TypeError: if `fn` is not callable or does not return a scalar.
        ValueError: if an argument cannot be understood, or `target` is unknown, or it
            is `None` where there is no GPU.
        ImportError: if a GPU that is not there is to be compiled for without JAX's
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
        ...     loss, weights, x, budget="1.5GiB", target="h100", compile=False)
        >>> plan.device_bytes <= 1.5 * 2**30
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
    target: str | Target | None = None,
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


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of `plan`, checked. A budget of -1 asks for the smallest."""

    budget_bytes: int | None
    reserve_bytes: int
    host_budget_bytes: int | None
    target: str | Target | None
    policy: Policy | None
    compile: bool
    most_compiles: int
    search_seconds: float
    progress: Progress

    def plan(self, traced: Traced) -> Plan:
        """Plan one program, or find its plan on disk."""
        plain = _Traced.of(traced, keep_all)
        target = resolve_target(self.target)
        key = self._key(plain.graph, target, plain.program.placement)
        # A function may answer otherwise the next time; nothing of it can be named.
        is_named = not isinstance(self.policy, ByValue)

        def again(decide_loop: DecideLoop) -> tuple[Graph, Graph | None]:
            if not plain.graph.loops:
                return plain.graph, None
            return _Traced.of(traced, decide_loop).graph, plain.graph

        found = _plan_cache.find(key, again) if is_named else None
        if found is not None:
            self.progress(f"found a plan of {format_bytes(found.device_bytes)} on disk")
            return self._checked(found)
        made = self._make(traced, plain, target)
        if made.compiled is not None and is_named:
            _plan_cache.keep(key, made)
        return self._checked(made)

    def _make(self, traced: Traced, plain: "_Traced", target: Target) -> Plan:
        programs = self._programs(traced, plain)
        search = Ladder([search_of(p.graph, target) for p in programs])
        budget = target.memory_bytes if self.budget_bytes is None else self.budget_bytes
        is_smallest = self.budget_bytes == SMALLEST
        limit = 0 if is_smallest else budget - self.reserve_bytes
        compile_ = self._compiler(programs, target) if self.compile else None
        if self.policy is None:
            refined = self._refine(search, limit, compile_)
            used = refined.compiled.compile_count if refined.compiled else 0
            if is_smallest and used < self.most_compiles:
                smallest = refined.draft.timeline.device_bytes
                smallest += refined.correction_bytes
                faster = self._refine(
                    search, smallest, compile_, refined.correction_bytes, used
                )
                refined = faster if faster.fits else refined
        else:
            only = search.searches[0]
            refined = tune(only, self.policy, limit, compile_, self.progress)
        graph = refined.draft.graph
        made = Plan(
            graph=graph,
            target=target,
            actions=refined.draft.actions,
            swaps=refined.draft.swaps,
            signature=signature_of(graph),
            plain_graph=plain.graph if plain.graph.loops else None,
            budget_bytes=None if is_smallest else budget,
            reserve_bytes=self.reserve_bytes,
            large_bytes=refined.draft.staleness[1],
            staleness=refined.draft.staleness,
            host_budget_bytes=self.host_budget_bytes,
            bound_seconds=refined.bound_seconds,
            correction_bytes=refined.correction_bytes,
            compiled=refined.compiled,
            policy="" if self.policy is None else repr(self.policy),
            placement=plain.program.placement,
        )
        if not refined.fits and not is_smallest and self.budget_bytes is not None:
            raise self._budget_error(made, budget)
        return made

    def _programs(self, traced: Traced, plain: "_Traced") -> "list[_Traced]":
        """The programs among which the plan is to be found."""
        if not plain.graph.loops:
            return [plain]
        if self.policy is not None:
            policy = self.policy
            return [_Traced.of(traced, lambda body: policy.decide(body).actions)]
        found = [plain]
        seen = {tuple(loop.actions for loop in plain.graph.loops)}
        for rung in RUNGS[1:]:
            decided = tuple(rung(loop.graph) for loop in plain.graph.loops)
            if decided not in seen:
                seen.add(decided)
                found.append(_Traced.of(traced, rung))
        return found

    def _refine(
        self,
        search: Ladder,
        limit_bytes: int,
        compile_: Compile | None,
        correction_bytes: int = 0,
        used_compiles: int = 0,
    ) -> Refined:
        return refine(
            search,
            limit_bytes,
            self.host_budget_bytes,
            compile_,
            self.most_compiles - used_compiles,
            self.search_seconds,
            self.progress,
            correction_bytes,
        )

    def _budget_error(self, made: Plan, budget: int) -> BudgetError:
        timeline, values = made.timeline, made.graph.values
        at = int(timeline.device_bytes_at.argmax())
        alive = [values[timeline.steps.values[b]] for b in timeline.alive(at)]
        holders = [(v.label, v.nbytes) for v in alive]
        holders.append(("arguments and results", timeline.caller_bytes))
        return BudgetError(
            budget,
            made.device_bytes + self.reserve_bytes,
            sorted(holders, key=lambda holder: -holder[1]),
            is_compiled=made.compiled is not None,
        )

    def _checked(self, made: Plan) -> Plan:
        """Return a plan that this machine's host memory can hold."""
        check_host_memory(
            made.host_bytes,
            limit_bytes=self.host_budget_bytes,
            is_local=self.target is None,
        )
        return made

    def _compiler(self, programs: "Sequence[_Traced]", target: Target) -> Compile:
        """Return what compiles a draft for the target."""

        def compile_(draft: Draft) -> Evidence:
            program = next(p.program for p in programs if p.graph is draft.graph)
            return inspect(
                step_of(program, draft.graph, draft),
                *types_of(program),
                target=None if self.target is None else target,
                compiler_options=compiler_options(),
            )

        return compile_

    def _key(self, graph: Graph, target: Target, placement: Placement | None) -> str:
        return _plan_cache.key_of(
            signature=dataclasses.asdict(signature_of(graph)),
            target=dataclasses.asdict(target),
            budget=self.budget_bytes,
            reserve=self.reserve_bytes,
            host_budget=self.host_budget_bytes,
            policy=repr(self.policy),
            most_compiles=self.most_compiles,
            search_seconds=self.search_seconds,
            **({} if placement is None else {"mesh": dataclasses.asdict(placement)}),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Traced:
    """A program with loops that run in one of several ways."""

    program: Program
    graph: Graph

    @classmethod
    def of(cls, traced: Traced, decide_loop: DecideLoop) -> "_Traced":
        program = traced(decide_loop)
        return cls(program, graph_of(program))


SMALLEST = -1


def search_of(graph: Graph, target: Target) -> Search:
    """Return the search for plans of a graph."""
    rates = rates_of(target)
    kept = Arranger(graph, rates, 1).draft([Action.KEEP] * len(graph.values), ())
    peak = kept.timeline.device_bytes - kept.timeline.caller_bytes
    large_bytes = max(1, int(peak * SMALL_SHARE))
    arranger = Arranger(graph, rates, large_bytes)
    candidates = find_candidates(graph, arranger.simulator.fusion, large_bytes)
    seeds = [getattr(policies, name)().decide for name in policies.UNTUNED]
    return Search(arranger, candidates, seeds)


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
