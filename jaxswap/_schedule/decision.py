"""What a policy is, and what it returns for a program."""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxswap._graph.graph import Action, DecideLoop, Graph, alike
from jaxswap._schedule.timing import Timing


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a policy returns for one traced program.

    Attributes:
        actions: One for each value of the graph, by index.
        timing: When copies start.
    """

    actions: tuple[Action, ...]
    timing: Timing


@runtime_checkable
class Policy(Protocol):
    """An object that decides on a graph."""

    def decide(self, graph: Graph) -> Decision:
        """Return the action of each value, and when copies start."""
        ...


def loops_by(policy: Policy) -> DecideLoop:
    """Return how a policy runs loops: all iterations of one alike."""
    return lambda body: alike(body, policy.decide(body).actions)


@runtime_checkable
class Tunable(Protocol):
    """A policy that sets its options by trying what fits."""

    def tune(self, graph: Graph, fits: Callable[[Decision], bool]) -> Decision:
        """Return the decision for the options that the policy chooses."""
        ...
