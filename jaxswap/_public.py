"""The public names of `jaxswap`, imported from the files that define them."""

from jaxswap import policies as policies
from jaxswap._base.errors import BudgetError as BudgetError
from jaxswap._base.errors import GradientError as GradientError
from jaxswap._base.errors import HostMemoryError as HostMemoryError
from jaxswap._base.errors import JaxswapError as JaxswapError
from jaxswap._base.errors import MissingExtraError as MissingExtraError
from jaxswap._calibrate import calibrate as calibrate
from jaxswap._check import Check as Check
from jaxswap._check import check as check
from jaxswap._compiler_options import compiler_options as compiler_options
from jaxswap._device.resolve import find_target as find_target
from jaxswap._gpu.node import Node as Node
from jaxswap._gpu.node import find_node as find_node
from jaxswap._gpu.rates import Rates as Rates
from jaxswap._gpu.target import Target as Target
from jaxswap._graph.graph import Action as Action
from jaxswap._graph.graph import Value as Value
from jaxswap._host_state import host_state as host_state
from jaxswap._inspect import Evidence as Evidence
from jaxswap._inspect import inspect as inspect
from jaxswap._jit import jit as jit
from jaxswap._offload import offload as offload
from jaxswap._pareto import Pareto as Pareto
from jaxswap._pareto import Point as Point
from jaxswap._pareto import pareto as pareto
from jaxswap._pin import pin_host_memory as pin_host_memory
from jaxswap._planner import plan as plan
from jaxswap._plans.cache import clear_plans as clear_plans
from jaxswap._plans.file import load_plan as load_plan
from jaxswap._plans.plan import Plan as Plan
from jaxswap._profile import profile as profile
from jaxswap._profiled.profile import Profile as Profile
from jaxswap._schedule.lms import LMS as LMS
from jaxswap._slabs.slabs import Slabs as Slabs

KEEP = Action.KEEP
OFFLOAD = Action.OFFLOAD
RECOMPUTE = Action.RECOMPUTE
