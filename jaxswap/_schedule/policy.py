"""What a user passes as `policy=` -> a policy object."""

import dataclasses
from collections.abc import Callable

from jaxswap._graph.graph import Action, Graph, Value
from jaxswap._schedule.decision import Decision, Policy
from jaxswap._schedule.swap_heavy import SwapHeavy
from jaxswap._schedule.timing import Timing


@dataclasses.dataclass(frozen=True)
class ByValue:
    """A policy given as a function of a `Value`."""

    function: Callable[[Value], Action]

    def decide(self, graph: Graph) -> Decision:
        """Ask the function for each forward value. Arguments stay where they are."""
        timing = Timing(min_bytes=0, swap_cotangents=False, is_forced=True)
        actions = [Action.KEEP] * len(graph.values)
        for v in graph.carried:
            if graph.values[v].nbytes:
                actions[v] = self._ask(graph.values[v])
        for eqn in graph.equations:
            for v in () if eqn.is_backward else eqn.outputs:
                if graph.values[v].nbytes:
                    actions[v] = self._ask(graph.values[v])
        return Decision(tuple(actions), timing)

    def _ask(self, value: Value) -> Action:
        action = self.function(value)
        if not isinstance(action, Action):
            raise TypeError(
                f"`policy` returned {action!r} for the value {value.label!r}; it must "
                "return jaxswap.KEEP, jaxswap.OFFLOAD or jaxswap.RECOMPUTE."
            )
        return action


def as_policy(
    policy: Policy | Action | Callable[[Value], Action] | None,
) -> Policy:
    """Return the policy object for what a user passes as `policy=`."""
    if policy is None:
        return SwapHeavy()
    if isinstance(policy, Action):
        return ByValue(lambda _: policy)
    if isinstance(policy, type):
        raise TypeError(
            f"`policy` is the class {policy.__name__}; pass an instance of it, such as "
            f"{policy.__name__}()."
        )
    if isinstance(policy, Policy):
        return policy
    if callable(policy):
        return ByValue(policy)
    raise TypeError(
        f"`policy` is {policy!r}; it must be None, a jaxswap.Action, a policy such as "
        "jaxswap.LMS(), or a function of a jaxswap.Value that returns a jaxswap.Action."
    )
