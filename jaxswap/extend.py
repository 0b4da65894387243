"""Names for those who extend jaxswap: for their own policies, and for tools on plans.

A policy is any object with a method `decide(graph) -> Decision`. It sees the traced
program as a `Graph`, which holds plain numbers and names, but no array and no tracer.
So a policy can be written and tested without JAX. `jaxswap.offload(fn, policy=...)` and
`jaxswap.plan(fn, ..., policy=...)` take it.

A tool on plans reads `jaxswap.Plan`: its `graph`, the action of each value, the `Swap`s
and the simulated `Timeline`.

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

from jaxswap._graph.graph import Action as Action
from jaxswap._graph.graph import Equation as Equation
from jaxswap._graph.graph import Graph as Graph
from jaxswap._graph.graph import Loop as Loop
from jaxswap._graph.graph import Value as Value
from jaxswap._offload import OffloadOptions as OffloadOptions
from jaxswap._schedule.decision import Decision as Decision
from jaxswap._schedule.decision import Policy as Policy
from jaxswap._schedule.instructions import Return as Return
from jaxswap._schedule.instructions import Swap as Swap
from jaxswap._schedule.timing import Distance as Distance
from jaxswap._schedule.timing import Timing as Timing
from jaxswap._search.tuning import Tunable as Tunable
from jaxswap._simulate.timeline import Timeline as Timeline
