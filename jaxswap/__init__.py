"""Train models whose activations do not fit in GPU memory.

`jaxswap.offload(fn)` is a function with the value and the gradient of `fn`, in which
every forward value that the backward pass needs is kept on the device, swapped to
host memory, or recomputed. `jaxswap.inspect(fn, ...)` compiles a function for a GPU
that need not be there and tells what it needs.
"""

from jaxswap import policies as policies
from jaxswap._budget import BudgetError as BudgetError
from jaxswap._calibrate import calibrate as calibrate
from jaxswap._check import Check as Check
from jaxswap._check import check as check
from jaxswap._compare import GradientError as GradientError
from jaxswap._evidence import Evidence as Evidence
from jaxswap._evidence import inspect as inspect
from jaxswap._graph import Action as Action
from jaxswap._graph import Value as Value
from jaxswap._host_memory import HostMemoryError as HostMemoryError
from jaxswap._host_state import host_state as host_state
from jaxswap._node import Node as Node
from jaxswap._node import find_node as find_node
from jaxswap._offload import offload as offload
from jaxswap._options import compiler_options as compiler_options
from jaxswap._pareto import Pareto as Pareto
from jaxswap._pareto import Point as Point
from jaxswap._pareto import pareto as pareto
from jaxswap._plan import Plan as Plan
from jaxswap._plan_cache import clear_plans as clear_plans
from jaxswap._plan_file import load_plan as load_plan
from jaxswap._planner import plan as plan
from jaxswap._policy import LMS as LMS
from jaxswap._rates import Rates as Rates
from jaxswap._target import Target as Target

KEEP = Action.KEEP
OFFLOAD = Action.OFFLOAD
RECOMPUTE = Action.RECOMPUTE
