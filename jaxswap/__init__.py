"""Train models whose activations do not fit in GPU memory.

`jaxswap.offload(fn)` is a function with the value and the gradient of `fn`, in which
every forward value that the backward pass needs is kept on the device, swapped to
host memory, or recomputed. `jaxswap.inspect(fn, ...)` compiles a function for a GPU
that need not be there and tells what it needs.
"""

import importlib
from typing import TYPE_CHECKING

from jaxswap._base.version import __version__ as __version__

if TYPE_CHECKING:
    from jaxswap._public import *  # noqa: F403
else:
    # JAX takes a second or two to load, so it waits until a name is asked for. Commands
    # that do without it, `jaxswap --help` above all, answer at once.
    def __getattr__(name: str) -> object:
        """Load the public names when the first of them is asked for."""
        if name == "policies":  # its users below are loaded with the others
            return importlib.import_module("jaxswap.policies")
        if name.startswith("_") and name != "__all__":
            raise AttributeError(f"module 'jaxswap' has no attribute {name!r}")
        from jaxswap import _public

        public = {n: v for n, v in vars(_public).items() if not n.startswith("_")}
        if name == "__all__":
            return sorted(public)
        globals().update(public)
        if name not in public:
            raise AttributeError(f"module 'jaxswap' has no attribute {name!r}")
        return public[name]

    def __dir__() -> list[str]:
        """List what is loaded and the public names."""
        return sorted({*globals(), *__getattr__("__all__")})

    del TYPE_CHECKING
