"""A message after a process has died.

When a process of a run dies, JAX ends the others from C++, where no Python code runs
any more. So each process has a small process beside it, which waits for its end. If the
end came without notice, the small process says what to do.
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
    """Write a line to stderr if this process ends suddenly in this context.

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
            pass  # The process has ended already.
        waiting.wait()
