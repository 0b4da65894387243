"""What all commands share: how they end, and how they refuse bad input.

A command reads what its caller gave within `bad_input()`. Errors there are the caller's
to mend: one line, exit code 2. Errors elsewhere are not, and keep their traceback.
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
    """What the caller gave does not fit; the message says why."""


@contextlib.contextmanager
def bad_input(*more: type[Exception]) -> Iterator[None]:
    """Report what is wrong with the caller's input as bad input.

    Args:
        *more: Further errors that the caller can mend.

    Raises:
        BadInputError: With the text of the error that was raised within. Errors of
            jaxswap's own, and of libraries that an extra brings, are left as they are.
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
