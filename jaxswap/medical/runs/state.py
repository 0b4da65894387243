"""What training changes: parameters, the optimizer's state, the average."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import Array

Parameters = Any


class State(NamedTuple):
    """What training changes.

    Attributes:
        parameters: Parameters of the network.
        optimizer_state: State of the optimizer.
        average: Exponential moving average of the parameters, or an empty tuple.
        step: Optimizer steps done, int32 scalar.
    """

    parameters: Parameters
    optimizer_state: optax.OptState
    average: Parameters
    step: Array

    @property
    def evaluated(self) -> Parameters:
        """The parameters to predict with: the average, if there is one."""
        return self.average if jax.tree.leaves(self.average) else self.parameters
