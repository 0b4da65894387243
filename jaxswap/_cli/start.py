"""Loading JAX without the lines that its CUDA plugin writes where there is no GPU.

The plugin is wanted for compiling alone. Each of its libraries looks for a driver when
it is loaded and says in a line of its log that there is none. No setting of the log
counts so early. So what is written to stderr meanwhile is held back, and all of it but
these lines is written then.
"""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

_NOISE = re.compile(
    rb"All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|cudart_stub\.cc:\d+\] Could not find cuda drivers on your machine"
)


def load_jax() -> None:
    """Import JAX."""
    with _without_noise():
        import jax

        del jax


def start_jax() -> None:
    """Import JAX and have it look for its devices."""
    with _without_noise():
        from jaxswap._compat import start_without_gpu

        start_without_gpu()


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not _NOISE.search(line):
                    os.write(2, line)
