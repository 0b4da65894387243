"""Train models whose activations do not fit in GPU memory.

`jaxswap.offload(fn)` returns a function with the value and the gradient of `fn`. Every
forward value that its backward pass needs is kept on the device, swapped to host
memory, or recomputed. `jaxswap.inspect(fn, ...)` compiles a function for a GPU, which
need not be in this machine, and reports how much memory it needs.
"""

import importlib
from typing import TYPE_CHECKING

from jaxswap._base import xla_flags as _xla_flags  # Before JAX reads them.
from jaxswap._base.version import __version__ as __version__

if TYPE_CHECKING:
    from jaxswap._public import *  # noqa: F403
else:
    # JAX takes a second or two to load, so it is loaded when a name is first asked for.
    # Commands that do not need it, such as `jaxswap --help`, answer at once.
    def __getattr__(name: str) -> object:
        """Load the public names when the first of them is asked for."""
        if name == "policies":  # The modules that use it are loaded with the others.
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
        """List the public names and what is loaded."""
        return sorted({*globals(), *__getattr__("__all__")})

    del TYPE_CHECKING, _xla_flags
