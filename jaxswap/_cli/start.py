"""Load JAX without the lines that its CUDA plugin writes if there is no GPU.

The plugin is only needed to compile. When its libraries are loaded, each looks for a
driver and logs a line that there is none. At that time no setting of the log works yet.
So what is written to stderr is held back meanwhile. Then all of it is written, except
these lines.
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
    """Import JAX, and let it look for its devices."""
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
