"""A training run that is ready to begin: its data, network and plan."""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn

from jaxswap.medical.data.grid import Shape
from jaxswap.medical.preparing.mesh import RunMesh
from jaxswap.medical.preparing.patches import Part
from jaxswap.medical.runs.run_cases import RunCases
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder
from jaxswap.medical.training.given_parameters import GivenParameters
from jaxswap.medical.training.run_plan import PlannedLoss


@dataclass(frozen=True)
class TrainingRun:
    """A run whose data, network and plan are ready.

    Attributes:
        config: The settings of the run.
        folder: The folder that it writes to.
        cases: The cases that it trains on.
        network: The network.
        planned: Its loss, offloaded.
        mesh: Its devices. None for one device.
        given: Parameters of another run to start from. None draws all of them.
        why: Why batch and patch are what they are, if they were chosen. Sentences.
    """

    config: RunConfig
    folder: RunFolder
    cases: RunCases
    network: nn.Module
    planned: PlannedLoss
    mesh: RunMesh | None = None
    given: GivenParameters | None = None
    why: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """Voxels that the network sees at a time."""
        return self.cases.seen(self.config)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of a batch of images, (batch, x, y, z, channel)."""
        return (self.config.batch_size, *self.shape, len(self.cases.channels))

    @property
    def part(self) -> Part | None:
        """The part of each batch that this process reads. None for all of it."""
        return None if self.mesh is None else self.mesh.part(self.batch_shape)
