"""The C files of this folder, compiled once for each machine.

Whatever C compiler there is will do: that of `$CC`, the system's, or the one that the
package `ziglang` brings (`pip install "jaxswap[fast]"`). The result is kept in the
user's folder. Without a compiler the same results are computed in Python.
"""

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxswap._base.files import user_folder

SOURCES = Path(__file__).parent
# A product that is added to something is rounded before that, as in Python.
FLAGS = ("-O3", "-std=c11", "-ffp-contract=off", "-shared", "-fPIC")
_MOST_SECONDS = 120
SWITCH = "JAXSWAP_COMPILE"
"""An environment variable. If it is `0`, nothing is compiled."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled functions. `None` if there is no compiler."""
    if os.environ.get(SWITCH) == "0":
        return None
    texts = [path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]"))]
    key = hashlib.sha256(b"".join([*texts, " ".join(FLAGS).encode()]))
    key.update(" ".join(platform.uname()[i] for i in (0, 4)).encode())
    name = f"core-{key.hexdigest()[:20]}"
    kept = sorted(user_folder("compiled").glob(f"{name}-*.so"))
    found = next(filter(None, map(_load, kept)), None)
    for compiler in () if found else _compilers():
        found = found or _built(compiler, name)
    return found


def _compilers() -> Iterator[Sequence[str]]:
    """Return the commands of C compilers that may be there."""
    for command in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if command and shutil.which(command):
            yield (command,)
    if importlib.util.find_spec("ziglang"):
        yield (sys.executable, "-m", "ziglang", "cc")


def _built(compiler: Sequence[str], name: str) -> ctypes.CDLL | None:
    """Compile, keep the result if that is possible, and load it."""
    try:
        with tempfile.TemporaryDirectory(prefix="jaxswap-") as scratch:
            made = Path(scratch) / f"{name}.so"
            command = [*compiler, *FLAGS, str(SOURCES / "core.c"), "-o", str(made)]
            subprocess.run(
                command, check=True, capture_output=True, timeout=_MOST_SECONDS
            )
            named = made.rename(made.with_stem(f"{name}-{_checksum(made)}"))
            return _load(_kept(named)) or _load(named)
    except (OSError, subprocess.SubprocessError):
        return None


def _kept(made: Path) -> Path:
    """Copy a library to the user's folder, and return where it is then."""
    kept = user_folder("compiled") / made.name
    # Another process may load the old file: the new one replaces it whole.
    beside = kept.with_name(f".{os.getpid()}-{made.name}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, beside)
        beside.replace(kept)
    except OSError:  # The folder cannot be written.
        return made
    return kept


def _load(path: Path) -> ctypes.CDLL | None:
    """Load a library, unless it is damaged: that could end the process."""
    try:
        is_whole = path.stem.endswith(_checksum(path))
        return ctypes.CDLL(str(path)) if is_whole else None
    except OSError:
        return None


def _checksum(path: Path) -> str:
    return f"{zlib.crc32(path.read_bytes()):08x}"
