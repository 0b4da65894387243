"""Several processes that train together: how they join, agree, and fail.

The processes find one another by the address of the first one. On Slurm, Open MPI and
Kubernetes, JAX finds it in the environment. If one process dies, the others would wait
for it forever. So JAX ends them if it shows no sign of life for a while.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils

HEARTBEAT_SECONDS = 60
_JOINING_SECONDS = 300


class ProcessError(ConnectionError):
    """Another process of the run is gone, or cannot be reached."""


@dataclass(frozen=True)
class Processes:
    """How the processes of a run find one another.

    Attributes:
        coordinator: Address on which process 0 listens, `HOST:PORT`. None reads this
            and the next two from the cluster's environment.
        count: Number of processes.
        process: Number of this one, from 0.
        heartbeat_seconds: A process counts as dead after so many seconds without a sign
            of life.
        joining_seconds: How long to wait for all processes at the start.

    Raises:
        ValueError: If the values do not fit together.
    """

    coordinator: str | None = None
    count: int | None = None
    process: int | None = None
    heartbeat_seconds: int = HEARTBEAT_SECONDS
    joining_seconds: int = _JOINING_SECONDS

    def __post_init__(self) -> None:
        given = [x is not None for x in (self.coordinator, self.count, self.process)]
        if any(given) and not all(given):
            raise ValueError(
                "`--coordinator HOST:PORT`, `--processes N` and `--process I` belong "
                "together; give all three, or `--distributed` alone on a cluster that "
                "starts the processes itself."
            )
        for name, seconds in (
            ("heartbeat", self.heartbeat_seconds),
            ("joining", self.joining_seconds),
        ):
            if seconds < 1:
                raise ValueError(f"`--{name}-seconds` is {seconds}, not 1 or more.")
        if self.coordinator is None or self.count is None or self.process is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(
                f"`--coordinator` is {self.coordinator!r}; it needs HOST:PORT, such as "
                "node1:12345."
            )
        if self.count < 1:
            raise ValueError(f"`--processes` is {self.count}, not 1 or more.")
        if not 0 <= self.process < self.count:
            raise ValueError(
                f"`--process` is {self.process}, not in 0..{self.count - 1}."
            )


@contextmanager
def joined(processes: Processes) -> Iterator[None]:
    """Wait until all processes have joined. Call this before JAX looks for devices.

    If another process dies in this context, this one ends with exit code 1. Or JAX ends
    it with another code, some seconds after `heartbeat_seconds`.

    Args:
        processes: How they find one another.

    Raises:
        ValueError: If nothing in the environment names the other processes.
        ProcessError: If not all of them joined.
    """
    _join(processes)
    try:
        yield
    except Exception as error:
        if not _is_lost_connection(error):
            raise
        reason = _first_line(error)
        sys.stderr.write(f"jaxswap: another process is gone: {reason}\n")
        sys.stderr.flush()
        # `exit` would wait for the process that has died.
        os._exit(1)
    jax.distributed.shutdown()


def _join(processes: Processes) -> None:
    try:
        jax.distributed.initialize(
            processes.coordinator,
            processes.count,
            processes.process,
            initialization_timeout=processes.joining_seconds,
            heartbeat_timeout_seconds=processes.heartbeat_seconds,
            shutdown_timeout_seconds=processes.heartbeat_seconds,
        )
    except ValueError as error:
        raise ValueError(
            "`--distributed` found no cluster in the environment (Slurm, Open MPI, "
            "Kubernetes); give --coordinator HOST:PORT, --processes N and --process I."
            f" JAX says: {error}"
        ) from error
    except RuntimeError as error:
        raise ProcessError(
            f"the processes did not all join within "
            f"{processes.joining_seconds} s: {_first_line(error)}"
        ) from error


def _is_lost_connection(error: Exception) -> bool:
    """Whether a computation over all processes failed. Only its text identifies it."""
    text = str(error)
    return any(name in text for name in ("Gloo", "NCCL", "oordination", "Barrier"))


def is_first() -> bool:
    """Whether this process writes what only one process has to write."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Wait until every process has reached this point."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def any_process(flag: bool) -> bool:
    """Whether a flag is set in any process. Each process has to call this."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.int32(flag))))


def known_to_any(values: np.ndarray) -> np.ndarray:
    """Fill NaNs with the values that other processes have. All have to call this.

    Args:
        values: Float64, of the same shape in all processes.

    Returns:
        The values, the same in all processes.
    """
    if jax.process_count() == 1:
        return values
    # As float64, JAX would turn them into float32.
    bits = np.ascontiguousarray(values, np.float64).view(np.uint32)
    gathered = np.asarray(multihost_utils.process_allgather(bits))
    every = np.ascontiguousarray(gathered).view(np.float64)
    known, filled = ~np.isnan(every), values.copy()
    for process in range(len(every)):
        filled = np.where(known[process], every[process], filled)
    return filled


def made_by_first(make: Callable[[], bytes]) -> bytes:
    """Return in all processes what the first process makes. Each has to call this.

    Args:
        make: Is called only in the first process.

    Returns:
        Its result.

    Raises:
        ValueError: If `make` failed: in all processes, with the same text.
    """
    if jax.process_count() == 1:
        return make()
    content, error = b"", None
    if is_first():
        try:
            content = make()
        except ValueError as raised:
            error, content = raised, str(raised).encode()
    header = np.array([len(content), error is not None], np.int32)
    length, is_error = multihost_utils.broadcast_one_to_all(header)
    if not is_first():
        content = bytes(int(length))
    array = np.frombuffer(content, np.uint8)
    content = np.asarray(multihost_utils.broadcast_one_to_all(array)).tobytes()
    if error is not None:
        raise error
    if is_error:
        raise ValueError(content.decode())
    return content


@contextmanager
def interruption(told: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, so that a run stops when its state can be saved.

    Slurm and Kubernetes send SIGTERM before they end a process. A second signal raises
    KeyboardInterrupt at once. Outside of the main thread, Python receives no signals:
    there, nothing is collected.

    Args:
        told: Is called when the first signal comes.

    Yields:
        A list. After a signal it holds the signal's number.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        del frame
        if received:
            raise KeyboardInterrupt("a second signal came")
        received.append(number)
        told()

    with _handling((signal.SIGINT, signal.SIGTERM), receive):
        yield received


@contextmanager
def interrupted_when_told() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as SIGINT does, while the block runs."""

    def receive(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt("the process was told to stop")

    with _handling((signal.SIGTERM,), receive):
        yield


@contextmanager
def _handling(
    signals: Sequence[signal.Signals], receive: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals while the block runs. In other threads, none arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, receive) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
