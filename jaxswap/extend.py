"""Names for those who extend jaxswap: for their own policies, and for tools on plans.

A policy is any object with a method `decide(graph) -> Decision`. It sees the traced
program as a `Graph`, which holds plain numbers and names, but no array and no tracer.
So a policy can be written and tested without JAX. `jaxswap.offload(fn, policy=...)` and
`jaxswap.plan(fn, ..., policy=...)` take it.

A tool on plans reads `jaxswap.Plan`: its `graph`, the action of each value, the `Swap`s
and the simulated `Timeline`. The types of all fields of public classes have their names
here.

Example:
    Keep the results of matrix products and recompute everything else:

    >>> import jax, jax.numpy as jnp, jaxswap
    >>> from jaxswap.extend import Decision, Graph, Timing
    >>> class KeepProducts:
    ...     def decide(self, graph: Graph) -> Decision:
    ...         actions = [jaxswap.RECOMPUTE] * len(graph.values)
    ...         for eqn in graph.equations:
    ...             if eqn.is_heavy and not eqn.is_backward:
    ...                 for v in eqn.outputs:
    ...                     actions[v] = jaxswap.KEEP
    ...         return Decision(tuple(actions), Timing())
    >>> def loss(w):
    ...     return jnp.sum(jnp.tanh(w @ w))
    >>> offloaded = jaxswap.offload(loss, policy=KeepProducts())
    >>> jax.grad(offloaded)(jnp.ones((2, 2))).shape
    (2, 2)
"""

import importlib
from typing import TYPE_CHECKING

from jaxswap._base.files import user_folder as user_folder
from jaxswap._base.plain import parse_plain as parse_plain
from jaxswap._base.plain import read_plain as read_plain
from jaxswap._base.typed import read_as as read_as
from jaxswap._base.units import parse_bytes as parse_bytes
from jaxswap._compiled.buffers import Buffer as Buffer
from jaxswap._compiled.collectives import Collective as Collective
from jaxswap._compiled.copies import Copy as Copy
from jaxswap._gpu.host_memory import available_ram_bytes as available_ram_bytes
from jaxswap._gpu.target import rates_of as rates_of
from jaxswap._gpu.work import Work as Work
from jaxswap._graph.graph import Action as Action
from jaxswap._graph.graph import Equation as Equation
from jaxswap._graph.graph import Graph as Graph
from jaxswap._graph.graph import Inside as Inside
from jaxswap._graph.graph import Loop as Loop
from jaxswap._graph.graph import Segment as Segment
from jaxswap._graph.graph import Value as Value
from jaxswap._graph.pieces import Pieces as Pieces
from jaxswap._graph.placement import Placement as Placement
from jaxswap._graph.signature import Signature as Signature
from jaxswap._plans.plan import Row as Row
from jaxswap._profiled.kernels import KernelTime as KernelTime
from jaxswap._schedule.decision import Decision as Decision
from jaxswap._schedule.decision import Policy as Policy
from jaxswap._schedule.entries import Entry as Entry
from jaxswap._schedule.instructions import Barrier as Barrier
from jaxswap._schedule.instructions import InPlace as InPlace
from jaxswap._schedule.instructions import Return as Return
from jaxswap._schedule.instructions import Run as Run
from jaxswap._schedule.instructions import Schedule as Schedule
from jaxswap._schedule.instructions import Swap as Swap
from jaxswap._schedule.instructions import SwapIn as SwapIn
from jaxswap._schedule.instructions import SwapOut as SwapOut
from jaxswap._schedule.order import Order as Order
from jaxswap._schedule.timing import Distance as Distance
from jaxswap._schedule.timing import Timing as Timing
from jaxswap._search.measured import Compiled as Compiled
from jaxswap._search.tuning import Tunable as Tunable
from jaxswap._simulate.draft import Draft as Draft
from jaxswap._simulate.kernels import Kernel as Kernel
from jaxswap._simulate.kernels import PlannedCopy as PlannedCopy
from jaxswap._simulate.kernels import Steps as Steps
from jaxswap._simulate.kernels import Wait as Wait
from jaxswap._simulate.timeline import Timeline as Timeline
from jaxswap._simulate.timeline import Transfer as Transfer
from jaxswap._slabs.facts import SlabFacts as SlabFacts
from jaxswap._slabs.facts import SweepFacts as SweepFacts
from jaxswap._slabs.facts import WindowRead as WindowRead
from jaxswap._slabs.settings import slabs_to_predict as slabs_to_predict
from jaxswap._slabs.slabs import parse_slabs as parse_slabs
from jaxswap._view.step import CopyLane as CopyLane
from jaxswap._view.step import LaneSpan as LaneSpan
from jaxswap._view.step import StepLanes as StepLanes

if TYPE_CHECKING:
    from jaxswap._offload import OffloadOptions as OffloadOptions
    from jaxswap._operation_seconds import operation_seconds as operation_seconds
    from jaxswap._operation_seconds import program_seconds as program_seconds
    from jaxswap._run.reference import ComparedPolicy as ComparedPolicy
    from jaxswap._run.reference import Difference as Difference
    from jaxswap._trace.float32 import in_float32 as in_float32
else:
    # These need JAX, which the names above do without.
    _WITH_JAX = {
        "ComparedPolicy": "jaxswap._run.reference",
        "Difference": "jaxswap._run.reference",
        "OffloadOptions": "jaxswap._offload",
        "in_float32": "jaxswap._trace.float32",
        "operation_seconds": "jaxswap._operation_seconds",
        "program_seconds": "jaxswap._operation_seconds",
    }

    def __getattr__(name: str) -> object:
        """Load a name that needs JAX when it is first asked for."""
        if name not in _WITH_JAX:
            raise AttributeError(f"module 'jaxswap.extend' has no attribute {name!r}")
        globals()[name] = getattr(importlib.import_module(_WITH_JAX[name]), name)
        return globals()[name]

    def __dir__() -> list[str]:
        """List the names that are loaded and those that need JAX."""
        return sorted({*globals(), *_WITH_JAX})

    del TYPE_CHECKING
