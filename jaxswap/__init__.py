"""Train models whose activations do not fit in GPU memory."""

from jaxswap._evidence import Evidence as Evidence
from jaxswap._evidence import inspect as inspect
from jaxswap._graph import Action as Action
from jaxswap._graph import Value as Value
from jaxswap._offload import offload as offload
from jaxswap._policy import LMS as LMS
from jaxswap._target import Target as Target

KEEP = Action.KEEP
OFFLOAD = Action.OFFLOAD
RECOMPUTE = Action.RECOMPUTE
