"""Settings of several processes, and what a single one makes of them.

That processes find one another is tested in `test_command_train_distributed`.
"""

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from jaxswap.medical.runs.processes import (
    Processes,
    any_process,
    interrupted_when_told,
    interruption,
    is_first,
    known_to_any,
    made_by_first,
    wait_for_all,
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 2}, "belong together"),
        ({"coordinator": "a:1", "count": 2}, "belong together"),
        ({"coordinator": "a", "count": 2, "process": 0}, "needs HOST:PORT"),
        ({"coordinator": ":1", "count": 2, "process": 0}, "needs HOST:PORT"),
        ({"coordinator": "a:99999", "count": 2, "process": 0}, "needs HOST:PORT"),
        ({"coordinator": "a:1", "count": 0, "process": 0}, "`--processes` is 0"),
        ({"coordinator": "a:1", "count": 2, "process": 2}, "`--process` is 2"),
        ({"coordinator": "a:1", "count": 2, "process": -1}, "`--process` is -1"),
        ({"heartbeat_seconds": 0}, "`--heartbeat-seconds` is 0"),
        ({"joining_seconds": 0}, "`--joining-seconds` is 0"),
    ],
)
def test_settings_that_do_not_fit_are_named(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Processes(**given)


def test_one_process_agrees_with_itself() -> None:
    wait_for_all("nobody")
    assert is_first()
    assert any_process(True)
    assert not any_process(False)
    assert made_by_first(lambda: b"plan") == b"plan"
    values = np.array([0.1, np.nan])
    np.testing.assert_array_equal(known_to_any(values), values)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_kept_and_told_and_a_second_one_acts_at_once(number: Any) -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    told: list[str] = []
    with interruption(lambda: told.append("once")) as received:
        signal.raise_signal(number)
        assert received == [number]
        with pytest.raises(KeyboardInterrupt, match="second"):
            signal.raise_signal(signal.SIGTERM)
    assert told == ["once"]
    assert handlers == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]


def test_a_thread_beside_the_main_one_collects_no_signals() -> None:
    def collect() -> list[int]:
        with interruption() as received:
            return received

    with ThreadPoolExecutor(1) as beside:
        assert beside.submit(collect).result() == []


def test_being_told_to_end_interrupts_only_while_the_block_runs() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(KeyboardInterrupt, match="told to stop"),
        interrupted_when_told(),
    ):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
