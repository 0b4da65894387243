"""What a run compiles: its step, its augmentation and its prediction.

Nothing of it depends on cases, on the learning rate or on the number of steps. So runs
that differ in these alone can share it, and only the first of them compiles.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxswap
from jaxswap.medical.prediction.mesh_prediction import MeshPredictor
from jaxswap.medical.prediction.prediction import Predictor
from jaxswap.medical.preparing.loading import Batch
from jaxswap.medical.runs.state import Parameters, State
from jaxswap.medical.training.optimizer import make_optimizer
from jaxswap.medical.training.prepared_run import TrainingRun
from jaxswap.medical.training.run_devices import (
    BatchInputs,
    out_shardings,
    place_state,
)
from jaxswap.medical.training.training_step import (
    draw_parameters,
    initialize,
    make_step,
)

_drawing = threading.Lock()  # What several programs need is made once.
_tracing = threading.Lock()  # Programs are traced one by one and compiled side by side.


class RunPrograms:
    """The programs of a run. Each is compiled when it is first used.

    Args:
        run: The run.
        like: The programs of a run with the same inputs and network, whose augmentation
            and prediction are used. None for own ones.

    Attributes:
        run: The run that they were made for.
        inputs: Turns a batch into the inputs of the step.
        predictor: Predicts volumes. None on a mesh.
        mesh_predictor: The same on a mesh. None on one device.
        memory: What is known of the memory of the compiled step.
        cases_at_a_time: Validation cases that are predicted side by side. Each takes
            memory of its own, on device and host.
    """

    def __init__(self, run: TrainingRun, like: RunPrograms | None = None) -> None:
        config, mesh = run.config, run.mesh
        self.run = run
        self.memory: Any = None
        self.cases_at_a_time = 1
        self._optimizer = make_optimizer(config)
        self._compiled: jax.stages.Compiled | None = None
        self.predictor: Predictor | None = None
        self.mesh_predictor: MeshPredictor | None = None
        self._like = like
        self._drawn: Parameters | None = None
        if like is not None:
            self.inputs, self.predictor = like.inputs, like.predictor
            return
        self.inputs = BatchInputs(config, run.batch_shape, mesh)
        is_whole, label_map = config.patch is None, run.cases.label_map
        if mesh is None:
            self.predictor = Predictor(
                run.network, label_map, run.shape, is_whole=is_whole, mirror_axes=()
            )
        else:
            self.mesh_predictor = MeshPredictor(
                run.network, label_map, run.shape, mesh, is_whole=is_whole
            )

    def initial_state(self) -> State:
        """Draw the state before the first step."""
        run, config = self.run, self.run.config
        state = initialize(
            run.network,
            self._optimizer,
            run.batch_shape,
            seed=config.seed,
            average_decay=config.average_decay,
            given=run.given,
            drawn=jax.tree.map(jnp.asarray, self._parameters()),
        )
        return place_state(state, run.mesh)

    def step(
        self,
        state: State,
        images: Any,
        labels: Any,
        compiling: Callable[[], None] = lambda: None,
    ) -> jax.stages.Compiled:
        """Return the compiled step, a function of state, images, labels and rate.

        At the first call it is compiled. Meanwhile its host memory is pinned, so that
        the first step is quick.

        Args:
            state: A state, for its types and its places.
            images: A batch of images.
            labels: A batch of labels.
            compiling: Is called if it has to be compiled.
        """
        if self._compiled is None:
            compiling()
            with ThreadPoolExecutor(max_workers=1) as beside:
                pinned = beside.submit(self._pin)
                with _tracing:
                    lowered = self._lower(state, images, labels)
                self._compiled = lowered.compile()
                pinned.result()
            self.memory = self._compiled.memory_analysis()
        return self._compiled

    def compile(self) -> None:
        """Compile and run everything once, on a blank batch."""
        images = np.zeros(self.run.batch_shape, np.float16)
        blank = Batch(images, np.zeros(images.shape[:-1], np.uint8))
        state = self.initial_state()
        inputs = self.inputs.of(blank, 1)
        state, measures = self.step(state, *inputs)(state, *inputs, np.float32(0))
        float(measures.loss)  # Waits.
        if self.predictor is not None:
            self.predictor.probabilities(state.evaluated, images[0])

    def _parameters(self) -> Parameters:
        """Return the parameters before the first step, on the host."""
        if self._like is not None:
            return self._like._parameters()
        with _drawing:
            if self._drawn is None:
                run = self.run
                drawn = draw_parameters(run.network, run.batch_shape, run.config.seed)
                self._drawn = jax.tree.map(np.asarray, drawn)
            return self._drawn

    def _lower(self, state: State, images: Any, labels: Any) -> jax.stages.Lowered:
        config = self.run.config
        step = make_step(
            self.run.planned.loss,
            self._optimizer,
            seed=config.seed,
            average_decay=config.average_decay,
            out_shardings=out_shardings(state, self.run.mesh),
        )
        return step.lower(state, images, labels, np.float32(0))

    def _pin(self) -> None:
        plan, mesh = self.run.planned.plan, self.run.mesh
        if plan is not None:
            devices = None if mesh is None else mesh.mesh.local_devices
            jaxswap.pin_host_memory(plan, devices=devices)
