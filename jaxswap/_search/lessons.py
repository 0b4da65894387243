"""What compiled programs taught about the drafts of one program."""

import dataclasses

from jaxswap._graph.graph import Action


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What the next draft has to respect.

    Attributes:
        eager: Values whose copies back started too late. Their copies must be done one
            heavy operation earlier.
        grounded: Values that stay on the device, because an earlier copy did not help.
        refused: Actions of drafts whose compiled programs did not fit.
    """

    eager: frozenset[int] = frozenset()
    grounded: frozenset[int] = frozenset()
    refused: frozenset[tuple[Action, ...]] = frozenset()

    def exposed(self, values: frozenset[int]) -> "Lessons":
        """Note copies back that nothing hides. The second time, the value stays."""
        return dataclasses.replace(
            self,
            eager=self.eager | values,
            grounded=self.grounded | (values & self.eager),
        )

    def without(self, actions: tuple[Action, ...]) -> "Lessons":
        """Note a draft whose compiled program does not fit."""
        return dataclasses.replace(self, refused=self.refused | {actions})


NO_LESSONS = Lessons()
