"""Saying something after a process has died.

When a process of a run is gone, JAX ends the others from within C++, where no Python
runs any more. So a small process beside each of them waits for its end and, if that
came without notice, says what to do.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_WAIT = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if not sys.stdin.buffer.read():
    sys.stderr.write(sys.argv[1])
"""


@contextmanager
def told_at_sudden_end(message: str) -> Iterator[None]:
    """Have a line written to stderr if this process ends within the context.

    Args:
        message: The line.
    """
    waiting = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WAIT, f"{message}\n"],
        stdin=subprocess.PIPE,
    )
    try:
        yield
    finally:
        assert waiting.stdin is not None
        try:
            waiting.stdin.write(b"done")
            waiting.stdin.close()
        except OSError:
            pass  # it is gone already
        waiting.wait()
