"""What all commands share: their exit codes, and how they refuse bad input.

A command reads the caller's options and files inside `bad_input()`. The caller can
correct errors there: they become one line and exit code 2. Other errors keep their
traceback.
"""

from __future__ import annotations

import contextlib
import enum
import sys
from collections.abc import Iterator
from typing import Any

from jaxswap._base.errors import JaxswapError
from jaxswap._base.extras import extras_of

Commands = Any
"""What `add_subparsers` returns."""


class ExitCode(enum.IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    INTERRUPTED = 130


class BadInputError(JaxswapError):
    """An option or a file of the caller does not fit. The message says why."""


@contextlib.contextmanager
def bad_input(*more: type[Exception]) -> Iterator[None]:
    """Turn errors of the caller's input into `BadInputError`.

    Args:
        *more: Further kinds of errors that the caller can correct.

    Raises:
        BadInputError: With the text of the error that was raised inside. Errors that
            jaxswap defines, and those for libraries of an extra, are not changed.
    """
    try:
        yield
    except JaxswapError:
        raise
    except (
        ValueError,
        TypeError,
        ImportError,
        FileNotFoundError,
        IsADirectoryError,
        NotADirectoryError,
        PermissionError,
        *more,
    ) as error:
        if extras_of(error):
            raise
        raise BadInputError(str(error)) from error


def write(text: str) -> None:
    """Write a line of a command's result to stdout."""
    sys.stdout.write(f"{text}\n")


def tell(text: str) -> None:
    """Write a line that is not part of the result to stderr."""
    sys.stderr.write(f"{text}\n")
