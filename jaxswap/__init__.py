"""Train models whose activations do not fit in GPU memory.

`jaxswap.offload(fn)` is a function with the value and the gradient of `fn`, in which
every forward value that the backward pass needs is kept on the device, swapped to
host memory, or recomputed. `jaxswap.inspect(fn, ...)` compiles a function for a GPU
that need not be there and tells what it needs.
"""

from jaxswap._evidence import Evidence as Evidence
from jaxswap._evidence import inspect as inspect
from jaxswap._graph import Action as Action
from jaxswap._graph import Value as Value
from jaxswap._offload import compiler_options as compiler_options
from jaxswap._offload import offload as offload
from jaxswap._policy import LMS as LMS
from jaxswap._target import Target as Target

KEEP = Action.KEEP
OFFLOAD = Action.OFFLOAD
RECOMPUTE = Action.RECOMPUTE
