"""What a caller asks of the planner, and how it is answered for a function."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import jax

from jaxswap import policies
from jaxswap._base.arguments import at_least_one, positive_seconds, refuse_idle
from jaxswap._base.errors import BudgetError
from jaxswap._base.progress import progress_of
from jaxswap._base.units import format_bytes, parse_bytes
from jaxswap._device.operations import measured_here
from jaxswap._device.resolve import find_target
from jaxswap._device.topology import as_default
from jaxswap._gpu.host_memory import check_host_memory
from jaxswap._gpu.node import Node, find_node, is_node
from jaxswap._gpu.rates import Rates
from jaxswap._gpu.target import Target, rates_of
from jaxswap._graph.compress import checked_compress
from jaxswap._graph.graph import Action, Graph, Inside, Value
from jaxswap._graph.pieces import checked_pieces
from jaxswap._graph.placement import Placement
from jaxswap._graph.signature import signature_of
from jaxswap._inspect import inspect
from jaxswap._plans import cache as plan_cache
from jaxswap._plans.file import Decisions
from jaxswap._plans.plan import Plan
from jaxswap._run.machine import Machine
from jaxswap._run.programs import ProgramsOf, Room
from jaxswap._run.source import Source
from jaxswap._run.step import step_of, types_of
from jaxswap._schedule.decision import Policy
from jaxswap._schedule.policy import as_policy
from jaxswap._search.attempt import Refined, Task
from jaxswap._search.candidates import find_candidates
from jaxswap._search.limits import Limits
from jaxswap._search.loops import Programs
from jaxswap._search.measured import Measured
from jaxswap._search.pieces import InPieces
from jaxswap._search.refine import Compile, Progress, refine
from jaxswap._search.search import SEARCH_SECONDS, Search
from jaxswap._search.smallest import find_smallest
from jaxswap._search.tuning import tune
from jaxswap._search.ways import keep_all
from jaxswap._simulate.draft import Arranger, Draft
from jaxswap._slabs.slabs import AUTO, Cut, Slabs
from jaxswap._trace.describe import Traced
from jaxswap._trace.options import options_of

MOST_COMPILES = 8
KERNEL_FILE = "xla_gpu_kernel_cache_file"
"""XLA's option for a file of the kernels that it has compiled."""


class Request:
    """The arguments of `plan` that do not depend on the function, checked.

    Args:
        **options: As `plan` takes them. Those left out have its default values.

    Raises:
        ValueError: If an option cannot be understood.
    """

    def __init__(
        self,
        *,
        budget: int | str | None = None,
        target: str | Target | Node | None = None,
        policy: Policy | Action | Callable[[Value], Action] | None = None,
        reserve: int | str = 0,
        host_budget: int | str | None = None,
        compress: str | None = None,
        pieces: int | None = None,
        compile: bool = True,
        most_compiles: int = MOST_COMPILES,
        search_seconds: float = SEARCH_SECONDS,
        progress: bool | Progress = True,
    ) -> None:
        self.is_for_smallest = str(budget).strip().lower() == "smallest"
        self.budget_bytes = _bytes(None if self.is_for_smallest else budget, "budget")
        self.reserve_bytes = parse_bytes(reserve, "reserve")
        self.host_budget_bytes = _bytes(host_budget, "host_budget")
        self.compress = checked_compress(compress)
        self.pieces = checked_pieces(pieces)
        self.target = target
        self.policy = None if policy is None else as_policy(policy)
        self.compile = compile
        self.most_compiles = at_least_one(most_compiles, "most_compiles")
        self.search_seconds = positive_seconds(search_seconds, "search_seconds")
        self.progress = progress_of(progress)
        refuse_idle(
            {
                "`most_compiles` and `compile=False`": not compile
                and most_compiles != MOST_COMPILES,
                "`search_seconds` and `policy`": policy is not None
                and search_seconds != SEARCH_SECONDS,
                '`reserve` and `budget="smallest"`': self.is_for_smallest
                and self.reserve_bytes != 0,
                "`pieces` and `policy`": policy is not None and self.pieces > 1,
            }
        )

    def for_its_gpu(self) -> AbstractContextManager[None]:
        """Have kernels that are traced now written for the GPU, if it is not here."""
        is_absent = self.compile and self.target is not None
        return as_default(self._gpu(None)[0] if is_absent else None)

    def plan(self, source: Source) -> Plan:
        """Plan the programs of a function, or find its plan on disk."""
        if self.compress:
            source = dataclasses.replace(source, compress=self.compress)
        if source.slabs == AUTO and (self.policy is not None or self.is_for_smallest):
            # A policy decides alone. The smallest fits, so nothing asks for slabs.
            source = source.whole
        with self.for_its_gpu():
            return self._found_or_made(source)

    def _found_or_made(self, source: Source) -> Plan:
        source.refuse_symbols()
        plain = source.whole.traced(keep_all)
        placement = plain.program.placement
        if placement is not None and self.pieces > 1:
            raise NotImplementedError(
                "`pieces` is given, and arguments are split over devices: values that "
                "are split cannot be stored in pieces. Leave `pieces` out."
            )
        target, host_bytes = self._gpu(placement)
        if self.target is None and placement is None:
            target = measured_here(target, plain.program.eqns, self.progress)
        is_named = plan_cache.can_name(self.policy)
        key = self._key(plain.graph, target, host_bytes, placement, source.slabs)

        def again(found: Decisions) -> tuple[Graph, Graph | None]:
            is_whole = found.slabs is None and not found.pieces
            is_plain = is_whole and found.inside is Inside.AS_WRITTEN
            if is_plain and not plain.graph.loops:
                return plain.graph, None
            cut = source.cut(found.slabs, found.pieces)
            return cut.traced(found.decide_loop, found.inside).graph, plain.graph

        found = plan_cache.find(key, again) if is_named else None
        if found is not None:
            self.progress(f"found a plan of {format_bytes(found.device_bytes)} on disk")
            return self._checked(found)
        with tempfile.TemporaryDirectory(prefix="jaxswap-") as folder:
            made = self._make(source, plain, target, host_bytes, f"{folder}/kernels")
        if made.compiled is not None and is_named:
            plan_cache.keep(key, made)
        return self._checked(made)

    def _gpu(self, placement: Placement | None) -> tuple[Target, int | None]:
        """Return the GPU to plan for, and the pinned host memory that it may use."""
        if not is_node(self.target):
            assert not isinstance(self.target, Node)
            return find_target(self.target), self.host_budget_bytes
        assert isinstance(self.target, str | Node)
        node = find_node(self.target)
        busy = node.busy(1 if placement is None else placement.device_count)
        host_bytes = self.host_budget_bytes
        if host_bytes is None:
            host_bytes = node.host_bytes_each(busy)
        return node.gpu_among(busy), host_bytes

    def _make(
        self,
        source: Source,
        plain: Traced,
        target: Target,
        host_bytes: int | None,
        kernels: str,
    ) -> Plan:
        budget_bytes = self.budget_bytes
        if budget_bytes is None:
            budget_bytes = target.memory_bytes
        limits, rates = self._limits(budget_bytes, host_bytes), rates_of(target)
        found = ProgramsOf(
            source,
            plain,
            self.policy,
            lambda g: search_of(g, target, expects_gaps=self.compile),
            Room(rates, limits),
            self.progress,
        )
        kept = found.searches[0].arranger
        if kept.graph is not plain.graph:
            kept = Arranger(plain.graph, rates)
        # Who says how values are cut gets a plan that cuts them.
        is_cut = isinstance(source.slabs, Slabs)
        first = found.searches[0].kept if is_cut else kept.all_kept
        pieces = InPieces(self.pieces, found.in_pieces) if self.pieces > 1 else None
        together = Programs(found.searches, first, found.mixers, found.spare, pieces)
        options = options_of(plain.program.eqns)
        compile_ = None
        if self.compile:
            compile_ = self._compiler(found.traced, target, options, kernels)
        task = self._task(limits, rates, together.plain.timeline.seconds)
        refined = self._refined(together, found.searches[0], task, compile_)
        draft = refined.draft
        made = Plan(
            graph=draft.graph,
            target=target,
            actions=draft.actions,
            swaps=draft.swaps,
            signature=signature_of(draft.graph),
            plain_graph=None if draft.graph is plain.graph else plain.graph,
            budget_bytes=None if self.is_for_smallest else budget_bytes,
            reserve_bytes=self.reserve_bytes,
            staleness=draft.staleness,
            hold_for=draft.hold_for,
            in_place_bytes=draft.in_place_bytes,
            host_budget_bytes=host_bytes,
            bound_seconds=refined.bound_seconds,
            correction_bytes=refined.correction_bytes,
            compiled=refined.compiled,
            policy="" if self.policy is None else repr(self.policy),
            placement=plain.program.placement,
            compiler_options=options,
        )
        arrangers = [kept, *(search.arranger for search in together.searches)]
        made.simulated_by(draft, arrangers)
        if self.budget_bytes is not None and not refined.fits:
            raise self._budget_error(made, budget_bytes, together, limits)
        return made

    def _limits(self, budget_bytes: int, host_bytes: int | None) -> Limits:
        if self.is_for_smallest:
            return Limits.smallest(host_bytes)
        return Limits(budget_bytes - self.reserve_bytes, host_bytes)

    def _task(self, limits: Limits, rates: Rates, plain_seconds: float) -> Task:
        """Return what the loop of search and compiler is to find."""
        return Task(
            limits=limits,
            most_compiles=self.most_compiles,
            search_seconds=self.search_seconds,
            swap_bytes_per_second=min(
                rates.swap_out_bytes_per_second, rates.swap_in_bytes_per_second
            ),
            plain_seconds=plain_seconds,
        )

    def _refined(
        self, programs: Programs, first: Search, task: Task, compile_: Compile | None
    ) -> Refined:
        """Let the policy decide, or search."""
        if self.policy is not None:
            return tune(first, self.policy, task, compile_, self.progress)
        if self.is_for_smallest:
            return find_smallest(programs, compile_, task, self.progress)
        return refine(programs, compile_, task, self.progress)

    def _compiler(
        self,
        programs: Sequence[Traced],
        target: Target,
        options: dict[str, bool],
        kernels: str,
    ) -> Compile:
        """Return what compiles a draft for the target.

        Drafts have most kernels in common: XLA keeps them in the file `kernels`.
        """
        # XLA shares its tuning among the processes of a run. If one of them compiles
        # alone, it waits for the others. So it compiles for an imitated GPU.
        is_here = self.target is None and jax.process_count() == 1

        def compile_(draft: Draft) -> Measured:
            traced = next(t for t in programs if t.graph is draft.graph)
            seen = inspect(
                step_of(Machine(traced, draft.schedule)),
                *types_of(traced.program),
                target=None if is_here else target,
                compiler_options=options | {KERNEL_FILE: kernels},
            )
            exposed = (c for c in seen.exposed_copies if c.direction == "to_device")
            return Measured(
                device_bytes=seen.device_bytes,
                temp_bytes=seen.temp_bytes,
                fragmented_bytes=seen.fragmented_bytes,
                host_bytes=seen.host_bytes,
                swapped_bytes=seen.swapped_bytes,
                exposed_bytes=seen.exposed_bytes,
                exposed_returns=tuple(copy.label for copy in exposed),
            )

        return compile_

    def _budget_error(
        self, made: Plan, budget_bytes: int, programs: Programs, limits: Limits
    ) -> BudgetError:
        """Say what is missing: device memory, or host memory."""
        timeline, values = made.timeline, made.graph.values
        at = int(timeline.device_bytes_at.argmax())
        alive = [values[timeline.steps.values[b]] for b in timeline.alive(at)]
        holders = [(v.label, v.nbytes) for v in alive]
        holders.append(("arguments and results", timeline.caller_bytes))
        return BudgetError(
            budget_bytes,
            made.device_bytes + self.reserve_bytes,
            sorted(holders, key=lambda holder: -holder[1]),
            is_compiled=made.compiled is not None,
            host_budget_bytes=self.host_budget_bytes,
            needed_host_bytes=self._needed_host_bytes(made, programs, limits),
        )

    def _needed_host_bytes(
        self, made: Plan, programs: Programs, limits: Limits
    ) -> int | None:
        """Return the host memory of a plan that fits with more than is allowed."""
        allowed = self.host_budget_bytes
        if allowed is None or self.policy is not None:
            return None
        room_bytes = limits.device_bytes - max(0, made.correction_bytes)
        unlimited = dataclasses.replace(
            limits, device_bytes=room_bytes, host_bytes=None
        )
        found = programs.find(unlimited, seconds=self.search_seconds)
        needed = found.draft.timeline.host_bytes
        return needed if found.fits and needed > allowed else None

    def _checked(self, made: Plan) -> Plan:
        """Check that this machine's host memory can hold a plan. Return the plan."""
        device_count = 1 if made.placement is None else made.placement.device_count
        check_host_memory(
            made.host_bytes,
            limit_bytes=made.host_budget_bytes,
            is_local=self.target is None,
            device_count=min(device_count, jax.local_device_count()),
        )
        return made

    def _key(
        self,
        graph: Graph,
        target: Target,
        host_bytes: int | None,
        placement: Placement | None,
        slabs: Cut,
    ) -> str:
        return plan_cache.key_of(
            signature=dataclasses.asdict(signature_of(graph)),
            target=dataclasses.asdict(target),
            budget="smallest" if self.is_for_smallest else self.budget_bytes,
            reserve=self.reserve_bytes,
            host_budget=host_bytes,
            policy=repr(self.policy),
            most_compiles=self.most_compiles,
            search_seconds=self.search_seconds,
            pieces=self.pieces,
            slabs=dataclasses.asdict(slabs) if isinstance(slabs, Slabs) else slabs,
            **({} if placement is None else {"mesh": dataclasses.asdict(placement)}),
        )


def search_of(graph: Graph, target: Target, *, expects_gaps: bool = True) -> Search:
    """Return the search for plans of a graph. Drafts of policies take part in it."""
    arranger = Arranger(graph, rates_of(target))
    fusion = arranger.simulator.fusion
    seconds_of = arranger.seconds_alone
    candidates = find_candidates(graph, fusion, arranger.large_bytes, seconds_of)
    known = [getattr(policies, name)() for name in policies.ALL]
    return Search(arranger, candidates, known, expects_gaps=expects_gaps)


def _bytes(given: int | str | None, name: str) -> int | None:
    return None if given is None else parse_bytes(given, name)
