"""The command in processes of its own, which need not import anything.

A process that only imports is forked for each command. Imports would take most of what
a command in a test takes.
"""

import os
import pathlib
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context

from jaxswap._cli.main import main

IMPORTED = [
    "jaxswap._cli.main",
    "jaxswap.medical.training.training_run",
    "jaxswap.medical.training.final_validation",
]
"""Modules that training imports, which leave it to the command to start JAX."""


class Command:
    """A command that runs, or did.

    Attributes:
        words: What is written behind `jaxswap`.
    """

    def __init__(
        self, words: Sequence[str], folder: pathlib.Path, environment: Mapping[str, str]
    ) -> None:
        self.words = words
        folder.mkdir(parents=True)
        self._out, self._error = folder / "out", folder / "error"
        context = get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        given = (self.words, dict(environment), self._out, self._error)
        self._process = context.Process(target=_run, args=given)
        self._process.start()

    @property
    def code(self) -> int | None:
        """The exit code; None while the command runs."""
        return self._process.exitcode

    @property
    def out(self) -> str:
        """What was written to stdout."""
        return self._out.read_text()

    @property
    def error(self) -> str:
        """What was written to stderr."""
        return self._error.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, seconds: float) -> None:
        """Wait for the end."""
        self._process.join(seconds)
        assert self.code is not None, f"runs for more than {seconds} s: {self.words}"

    def kill(self) -> None:
        """End the command, whatever it does."""
        self._process.kill()
        self._process.join()


@contextmanager
def ended_at_last(commands: Sequence[Command]) -> Iterator[Sequence[Command]]:
    """End those that are left when the block is over."""
    try:
        yield commands
    finally:
        for command in commands:
            command.kill()


def _run(
    words: Sequence[str],
    environment: Mapping[str, str],
    out: pathlib.Path,
    error: pathlib.Path,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for path, number in ((out, 1), (error, 2)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.exit(main(words))
