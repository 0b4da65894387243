"""When losses are read, and which time a step is said to have taken."""

from dataclasses import dataclass, field
from typing import Any

from jaxswap.medical.training.step_reader import StepReader, StepRecord
from jaxswap.medical.training.training_step import StepMeasures


@dataclass
class Device:
    """A device that computes one step after the other, and a clock."""

    now: float = 0.0
    free: float = 0.0
    events: list[str] = field(default_factory=list)

    def start(self, step: int, seconds: float) -> StepMeasures:
        """Return at once. Whoever reads the loss waits for the end of the step."""
        self.events.append(f"start {step}")
        end = self.free = max(self.free, self.now) + seconds
        loss: Any = _Loss(self, step, end)
        norm: Any = 1.0
        return StepMeasures(loss, norm)


@dataclass
class _Loss:
    device: Device
    step: int
    end: float

    def __float__(self) -> float:
        self.device.now = max(self.device.now, self.end)
        self.device.events.append(f"read {self.step}")
        return -0.5


def test_a_step_takes_the_time_that_the_device_needs() -> None:
    device, records = Device(), list[StepRecord]()
    reader = StepReader(records.append, lambda: device.now)
    device.now = 100.0  # Compiling is no part of a step.
    reader.restart()
    for step in (1, 2, 3):
        reader.add(step, device.start(step, 2.0))
    reader.flush()
    device.now += 50.0  # Nor is a validation.
    reader.restart()
    reader.add(4, device.start(4, 3.0))
    reader.flush()
    reader.flush()
    assert [record.step for record in records] == [1, 2, 3, 4]
    assert [record.seconds for record in records] == [2.0, 2.0, 2.0, 3.0]
    assert {record.loss for record in records} == {-0.5}


def test_the_next_step_is_started_before_a_loss_is_waited_for() -> None:
    device = Device()
    reader = StepReader(lambda record: None, lambda: device.now)
    for step in (1, 2):
        reader.add(step, device.start(step, 1.0))
    reader.flush()
    assert device.events == ["start 1", "start 2", "read 1", "read 2"]
