"""Where a long task tells what it does."""

import sys
from collections.abc import Callable


def progress_of(progress: bool | Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that is given each line of progress.

    Args:
        progress: Such a function, or whether to write the lines to stderr.
    """
    if callable(progress):
        return progress
    return _write if progress else lambda line: None


def _write(line: str) -> None:
    sys.stderr.write(f"jaxswap: {line}\n")
    sys.stderr.flush()
