"""Policies and a limit of memory -> their drafts, with which a search begins.

So no plan is slower than what a published policy needs no more memory for.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

from jaxswap._graph.graph import Action
from jaxswap._schedule.decision import Decision, Policy, Tunable
from jaxswap._search.limits import Aim, Limits
from jaxswap._search.sketches import SketchMemory
from jaxswap._search.trial import Trial
from jaxswap._simulate.draft import Arranger
from jaxswap._sketch.sketch import codes


class Followed:
    """The drafts of some policies. Each is sketched once."""

    def __init__(
        self, arranger: Arranger, sketches: SketchMemory, policies: Iterable[Policy]
    ) -> None:
        self.arranger = arranger
        self.sketches = sketches
        self.policies = tuple(policies)
        self._untuned: list[Trial] | None = None
        self._tuned: dict[int, list[Trial]] = {}

    def drafts(self, limits: Limits) -> Sequence[Trial]:
        """Return the draft of each policy, tuned to a limit where this is possible.

        There are none where they are not to be taken. See `Limits.may_take`.
        """
        if limits.aim is Aim.SMALLEST_OWN:
            return ()
        limit_bytes = limits.device_bytes
        if self._untuned is None:
            self._untuned = [
                self._followed(policy.decide(self.arranger.graph))
                for policy in self.policies
                if not isinstance(policy, Tunable)
            ]
        if limit_bytes not in self._tuned:
            self._tuned[limit_bytes] = [
                self._followed(self._tune(policy, limit_bytes))
                for policy in self.policies
                if isinstance(policy, Tunable)
            ]
        return [*self._untuned, *self._tuned[limit_bytes]]

    def _tune(self, policy: Tunable, limit_bytes: int) -> Decision:
        """Let a policy try its options."""

        def fits(decision: Decision) -> bool:
            return self.sketches.follow(decision).device_bytes <= limit_bytes

        return policy.tune(self.arranger.graph, fits)

    def _followed(self, decision: Decision) -> Trial:
        """Sketch the decision of a policy.

        Drafts are made from its actions. So values without bytes on the device stay
        where they are: those of sweeps may lie in host memory already.
        """
        values = self.arranger.graph.values
        actions = tuple(
            action if values[v].nbytes or action is not Action.OFFLOAD else Action.KEEP
            for v, action in enumerate(decision.actions)
        )
        decision = dataclasses.replace(decision, actions=actions)
        sketch = self.sketches.follow(decision)
        make = functools.partial(self.arranger.follow, decision)
        return Trial(codes(decision.actions), sketch, make, is_followed=True)
