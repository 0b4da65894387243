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
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxswap._base.files import user_folder

SOURCES = Path(__file__).parent
# A product that is added to something is rounded before that, as in Python.
FLAGS = ("-O2", "-std=c11", "-ffp-contract=off", "-shared", "-fPIC")
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
    name = f"core-{key.hexdigest()[:20]}.so"
    found = _load(user_folder("compiled") / name)
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
    with tempfile.TemporaryDirectory(prefix="jaxswap-") as scratch:
        made = Path(scratch) / name
        command = [*compiler, *FLAGS, str(SOURCES / "core.c"), "-o", str(made)]
        try:
            subprocess.run(command, check=True, capture_output=True)
            kept = user_folder("compiled") / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            # Another process may load the old file: the new one replaces it whole.
            beside = kept.with_name(f".{os.getpid()}-{name}")
            shutil.copy(made, beside)
            beside.replace(kept)
        except subprocess.CalledProcessError:
            return None
        except OSError:  # The folder cannot be written.
            return _load(made)
        return _load(kept)


def _load(path: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(path)) if path.is_file() else None
    except OSError:
        return None
