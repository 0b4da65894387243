"""The text of jaxswap's own code as one number, so that a change of it can be told."""

import functools
import hashlib
from pathlib import Path

KINDS = ("*.py", "*.c", "*.h")
"""What decides on plans: code in Python and in C."""


@functools.cache
def digest_of(package: Path = Path(__file__).parents[1]) -> str:
    """Return a digest of the code in a folder and below. Files are read once.

    Args:
        package: The folder. By default that of jaxswap.
    """
    found = hashlib.sha256()
    for path in sorted(path for kind in KINDS for path in package.rglob(kind)):
        found.update(f"{path.relative_to(package).as_posix()}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()
