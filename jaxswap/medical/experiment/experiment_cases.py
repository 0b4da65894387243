"""The cases of an experiment: drawn and prepared in the background, arm by arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from threading import Event
from typing import NamedTuple

from rich.console import Console

from jaxswap.medical.data.case_files import CaseFiles, Dataset
from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.experiment.experiment import (
    METHODS,
    PATCHES,
    SWAPPED,
    Experiment,
)
from jaxswap.medical.networks.networks import make_network, multiple_of
from jaxswap.medical.preparing.normalization import choose_schemes, measure
from jaxswap.medical.preparing.prepared_cache import CacheConfig, prepare_all
from jaxswap.medical.preparing.preparing import PrepareConfig, Prepared
from jaxswap.medical.runs.run_cases import RunCases, load_cases
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.synthesis.synthesis import (
    Synthesis,
    default_templates,
    run_synthesis,
)
from jaxswap.medical.synthesis.synthetic_recipe import make_recipe

_TEST_SEED = 1_000_003  # Added to the seed of the training cases.
_THREADS = 4


@dataclass(frozen=True)
class ArmCases:
    """The prepared cases of an arm, for one way of training.

    Attributes:
        cases: Those to train and validate on.
        test: Those to score.
    """

    cases: RunCases
    test: tuple[Prepared, ...]


class Look(NamedTuple):
    """What is known of an arm once its first case is drawn."""

    dataset: Dataset
    multiple: int


def check_experiment(experiment: Experiment) -> None:
    """Check settings, sizes and the network of an experiment. Write nothing.

    Args:
        experiment: The experiment.

    Raises:
        ValueError: If one of them does not fit. The message names it.
    """
    side = experiment.size
    for arm in experiment.arms:
        make_recipe(arm, (side, side, side), experiment.spacing_mm)
        for method in METHODS:
            _multiple(experiment.config(arm, method))


def _multiple(config: RunConfig) -> int:
    options = config.network_options
    return multiple_of(
        make_network(config.network, options, classes=1, precision="float32")
    )


class _StoppedError(Exception):
    """The experiment ended before all cases were drawn."""


class Drawing:
    """Draws and prepares the cases of all arms, one arm after the other.

    Args:
        experiment: The experiment.
        console: Where it says what it does.
    """

    def __init__(self, experiment: Experiment, console: Console) -> None:
        self._experiment, self._console = experiment, console
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1)
        self._arms: dict[str, Future[dict[str, ArmCases]]] = {}

    def look(self, arm: str) -> Look:
        """Draw the first case of an arm, unless it is there, and look at it.

        Args:
            arm: The arm.
        """
        made = self._synthesis(arm, "training")
        for _ in run_synthesis(replace(made, cases=1)):
            pass
        config = self._experiment.config(arm, SWAPPED)
        return Look(find_dataset(made.out), _multiple(config))

    def begin(self) -> None:
        """Draw everything from now on, in the background."""
        for arm in self._experiment.arms:
            self._arms[arm] = self._pool.submit(self._make, arm)

    def wait(self, arm: str) -> dict[str, ArmCases]:
        """Wait for the cases of an arm, by method: `SWAPPED` and `PATCHES`.

        Args:
            arm: The arm.
        """
        return self._arms[arm].result()

    def stop(self) -> None:
        """End after the cases that are being drawn."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def _synthesis(self, arm: str, part: str) -> Synthesis:
        experiment, side = self._experiment, self._experiment.size
        is_test = part == "test"
        return Synthesis(
            experiment.out / arm / part,
            make_recipe(arm, (side, side, side), experiment.spacing_mm),
            experiment.test_cases if is_test else experiment.training_cases,
            _TEST_SEED if is_test else 0,
            experiment.workers,
            default_templates() if arm == "parcellation" else None,
        )

    def _make(self, arm: str) -> dict[str, ArmCases]:
        look = None
        for part in ("training", "test"):
            made = self._synthesis(arm, part)
            self._console.print(f"{arm}: drawing {made.cases} {part} cases")
            for _ in run_synthesis(made):
                self._check()
            look = look or self.look(arm)
        assert look is not None
        return {
            method: self._prepared(arm, method, look.multiple)
            for method in (SWAPPED, PATCHES)
        }

    def _prepared(self, arm: str, method: str, multiple: int) -> ArmCases:
        experiment = self._experiment
        config, cache = experiment.config(arm, method), experiment.out / "prepared"
        prepared = []
        for part in ("training", "test"):
            dataset = find_dataset(experiment.out / arm / part)
            kept = CacheConfig(cache, _prepare_config(config, dataset, multiple))
            self._check()
            _prepare_side_by_side(dataset, kept, experiment.workers)
            prepared.append((dataset, kept))
        cases = load_cases(config, multiple, cache)
        test, kept = prepared[1]
        return ArmCases(cases, prepare_all(test.labeled, test, kept, workers=_THREADS))

    def _check(self) -> None:
        if self._stop.is_set():
            raise _StoppedError("the experiment has ended")


@contextmanager
def drawing(experiment: Experiment, console: Console) -> Iterator[Drawing]:
    """Draw cases in the background until the end of the block.

    Args:
        experiment: The experiment.
        console: Where it is said what is drawn.
    """
    made = Drawing(experiment, console)
    try:
        yield made
    finally:
        made.stop()


def _prepare_config(
    config: RunConfig, dataset: Dataset, multiple: int
) -> PrepareConfig:
    schemes = choose_schemes(dataset.channels, config.normalization)
    normalizations = measure(dataset, schemes)
    return PrepareConfig(
        multiple, config.shape, config.spacing_mm, config.mask, normalizations
    )


def _prepare_side_by_side(dataset: Dataset, kept: CacheConfig, workers: int) -> None:
    """Prepare cases in several processes, so that they are in the cache."""
    cases = dataset.labeled
    if workers == 1:
        return  # They are prepared where they are needed.
    with ProcessPoolExecutor(
        min(workers, len(cases)), mp_context=get_context("spawn")
    ) as pool:
        parts = [cases[first::workers] for first in range(min(workers, len(cases)))]
        list(pool.map(_prepare, parts, [dataset] * len(parts), [kept] * len(parts)))


def _prepare(cases: Sequence[CaseFiles], dataset: Dataset, kept: CacheConfig) -> None:
    prepare_all(cases, dataset, kept, workers=1)
