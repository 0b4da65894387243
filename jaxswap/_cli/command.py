"""What all commands share: their exit codes, and how they refuse bad input.

A command reads the caller's options and files inside `bad_input()`. The caller can
correct errors there: they become one line and exit code 2. Other errors keep their
traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import errno
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxswap._base.errors import JaxswapError
from jaxswap._base.extras import extras_of
from jaxswap._cli.screen import harmless

if TYPE_CHECKING:
    from jaxswap.medical.data.label_maps import LabelMap

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
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG):
            raise
        raise BadInputError(str(error)) from error


def add_meaning(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what labels mean.

    Args:
        parser: The parser of a command that reads labels.
    """
    parser.add_argument(
        "--edition",
        metavar="NAME",
        help="what labels mean: brats2021, brats2023, brats2024-gli, ...; found by the "
        "data set if left out",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="what labels mean: a JSON file with `labels`, such as dataset.json, or "
        "names and their values, such as '{left: 17, right: [53, 1053]}'",
    )


def meaning_of(parsed: argparse.Namespace) -> str | LabelMap | None:
    """Return what labels mean, by `--edition` or `--labels`. None if neither is given.

    Args:
        parsed: Options with `edition` and `labels`.

    Raises:
        ValueError: If both are given, or if `--labels` cannot be read.
        FileNotFoundError: If `--labels` is a file that does not exist.
    """
    from jaxswap.medical.data.labels_json import read_meaning
    from jaxswap.medical.data.named_labels import make_named_map, parse_labels

    if parsed.labels is None:
        return parsed.edition
    if parsed.edition is not None:
        raise ValueError("`--labels` and `--edition` say the same thing; give one.")
    if parsed.labels.lstrip().startswith("{"):
        return make_named_map(parse_labels(parsed.labels))
    return read_meaning(parsed.labels)


def count_processors() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write(text: str) -> None:
    """Write a line of a command's result to stdout."""
    sys.stdout.write(f"{harmless(text)}\n")


def tell(text: str) -> None:
    """Write a line that is not part of the result to stderr."""
    sys.stderr.write(f"{harmless(text)}\n")
