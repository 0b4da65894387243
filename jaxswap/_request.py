"""A traced program and what was asked of its plan -> `Plan`."""

import dataclasses
from collections.abc import Callable, Sequence

import jax

from jaxswap import policies
from jaxswap._base.errors import BudgetError
from jaxswap._base.units import format_bytes
from jaxswap._calibrate import resolve_target
from jaxswap._gpu.host_memory import check_host_memory
from jaxswap._gpu.node import Node, find_node, is_node
from jaxswap._gpu.options import compiler_options
from jaxswap._gpu.target import Target, rates_of
from jaxswap._graph.graph import Action, Graph
from jaxswap._graph.placement import Placement
from jaxswap._graph.signature import signature_of
from jaxswap._inspect import Evidence, inspect
from jaxswap._plans import cache as plan_cache
from jaxswap._plans.plan import Plan
from jaxswap._run.loop import DecideLoop, Traced
from jaxswap._run.step import step_of, types_of
from jaxswap._schedule.policy import ByValue, Policy
from jaxswap._search.candidates import SMALL_SHARE, find_candidates
from jaxswap._search.loops import RUNGS, Ladder, keep_all
from jaxswap._search.refine import Compile, Refined, refine
from jaxswap._search.search import Search
from jaxswap._search.tuning import tune
from jaxswap._simulate.draft import Arranger, Draft
from jaxswap._trace.describe import graph_of
from jaxswap._trace.program import Program

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of `plan`, checked. A budget of -1 asks for the smallest."""

    budget_bytes: int | None
    reserve_bytes: int
    host_budget_bytes: int | None
    target: str | Target | Node | None
    policy: Policy | None
    compile: bool
    most_compiles: int
    search_seconds: float
    progress: Progress

    def plan(self, traced: Traced) -> Plan:
        """Plan one program, or find its plan on disk."""
        plain = _Traced.of(traced, keep_all)
        if is_node(self.target):
            return self._of_node(plain.program.placement).plan(traced)
        assert not isinstance(self.target, Node)
        target = resolve_target(self.target)
        key = self._key(plain.graph, target, plain.program.placement)
        # A function may answer otherwise the next time; nothing of it can be named.
        is_named = not isinstance(self.policy, ByValue)

        def again(decide_loop: DecideLoop) -> tuple[Graph, Graph | None]:
            if not plain.graph.loops:
                return plain.graph, None
            return _Traced.of(traced, decide_loop).graph, plain.graph

        found = plan_cache.find(key, again) if is_named else None
        if found is not None:
            self.progress(f"found a plan of {format_bytes(found.device_bytes)} on disk")
            return self._checked(found)
        made = self._make(traced, plain, target)
        if made.compiled is not None and is_named:
            plan_cache.keep(key, made)
        return self._checked(made)

    def _of_node(self, placement: Placement | None) -> "Request":
        """The same for each of a node's GPUs that are busy."""
        assert isinstance(self.target, str | Node)
        node = find_node(self.target)
        busy = node.busy(1 if placement is None else placement.device_count)
        host_budget_bytes = self.host_budget_bytes
        if host_budget_bytes is None:
            host_budget_bytes = node.host_bytes_each(busy)
        return dataclasses.replace(
            self, target=node.gpu_among(busy), host_budget_bytes=host_budget_bytes
        )

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
                    search, smallest, compile_, refined.lasting_bytes, used
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
        device_count = 1 if made.placement is None else made.placement.device_count
        check_host_memory(
            made.host_bytes,
            limit_bytes=self.host_budget_bytes,
            is_local=self.target is None,
            device_count=min(device_count, jax.local_device_count()),
        )
        return made

    def _compiler(self, programs: "Sequence[_Traced]", target: Target) -> Compile:
        """Return what compiles a draft for the target."""
        # XLA shares its tuning among the processes of a run; one of them alone would
        # wait for the others, and so compiles for a GPU that is not there.
        is_here = self.target is None and jax.process_count() == 1

        def compile_(draft: Draft) -> Evidence:
            program = next(p.program for p in programs if p.graph is draft.graph)
            return inspect(
                step_of(program, draft.graph, draft),
                *types_of(program),
                target=None if is_here else target,
                compiler_options=compiler_options(),
            )

        return compile_

    def _key(self, graph: Graph, target: Target, placement: Placement | None) -> str:
        return plan_cache.key_of(
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
