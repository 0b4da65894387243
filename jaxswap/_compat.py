"""Every question whose answer depends on the versions of JAX, Flax and the plugins.

Nothing else in jaxswap asks for a version. Each function here has a test in
`tests/test_compat.py`.
"""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import os
import pathlib
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.experimental import topologies
from jax.extend import core, source_info_util

from jaxswap._base.errors import MissingExtraError


def refuse_wrong_jaxlib(version: str) -> None:
    """Raise where XLA is known to compute wrong gradients without a word.

    jaxlib 0.11.0 reads the wrong slices of host arrays in the loops of a backward
    pass on GPUs (github.com/openxla/xla/issues/46231).

    Raises:
        ImportError: Naming the versions to install instead.
    """
    if version == "0.11.0":
        raise ImportError(
            "jaxlib 0.11.0 computes wrong gradients of `jax.lax.scan` where values "
            "are swapped to the host (github.com/openxla/xla/issues/46231), so "
            'jaxswap does not run on it; pip install "jax>=0.10.2,!=0.11.0" '
            '"jaxlib>=0.10.2,!=0.11.0".'
        )


refuse_wrong_jaxlib(importlib.metadata.version("jaxlib"))


@contextlib.contextmanager
def explained_forward_mode() -> Iterator[None]:
    """Add what to do to the error of forward mode, known by its text only.

    Under `jit` JAX raises it when it lowers the program, where nothing of jaxswap is
    called any more; then the text is JAX's own.
    """
    try:
        yield
    except TypeError as error:
        if "forward-mode autodiff" in str(error):
            error.add_note(
                "jaxswap.offload swaps for a backward pass, so it is for reverse mode: "
                "jax.grad, jax.vjp, jax.jacrev. For jax.jvp or jax.jacfwd pass the "
                "function itself, which is `__wrapped__` of the offloaded one."
            )
        raise


def open_jaxpr(jaxpr: Any) -> tuple[core.Jaxpr, Sequence[Any]]:
    """Return the equations and the constants of a traced function.

    `jax.make_jaxpr` returns a `ClosedJaxpr` up to JAX 0.10 and a `Jaxpr` that holds
    its constants from 0.11 on; both answer to `.jaxpr` and `.consts`.
    """
    return jaxpr.jaxpr, jaxpr.consts


def called_jaxpr(eqn: core.JaxprEqn) -> Any | None:
    """Return the traced function that a `jit` equation calls, if it may be inlined.

    A call with shardings of its own, or with donated or static layouts, is left
    alone. The primitive is called `pjit` before JAX 0.7 and `jit` since.
    """
    if eqn.primitive.name not in ("jit", "pjit"):
        return None
    shardings = (*eqn.params["in_shardings"], *eqn.params["out_shardings"])
    if any(type(s).__name__ != "UnspecifiedValue" for s in shardings):
        return None
    return eqn.params["jaxpr"]


@dataclasses.dataclass(frozen=True)
class Scan:
    """A `lax.scan` equation, whatever the version of JAX.

    Attributes:
        jaxpr: Its body, of constants, carry and one slice of each scanned array.
        const_count: How many operands are constants.
        carry_count: How many are carried; the rest are scanned.
        length: Trip count.
        reverse: Whether it starts with the last slice.
        unroll: Iterations that it runs at a time.
    """

    jaxpr: Any
    const_count: int
    carry_count: int
    length: int
    reverse: bool
    unroll: int


def scan_of(eqn: core.JaxprEqn) -> Scan | None:
    """Describe a `lax.scan` equation; `None` for all others.

    Its operands are counted in `num_consts` and `num_carry` up to JAX 0.10 and are
    three groups of `ft_in` in JAX 0.12.
    """
    if eqn.primitive.name != "scan":
        return None
    params = eqn.params
    if "num_consts" in params:
        consts, carry = params["num_consts"], params["num_carry"]
    else:
        consts, carry, _ = (len(tuple(g)) for g in params["ft_in"].unpack())
    rest = (params["length"], params["reverse"], params["unroll"])
    return Scan(params["jaxpr"], consts, carry, *rest)


def checkpointed(eqn: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """What a `jax.checkpoint` equation executes; `None` for all others."""
    if eqn.primitive.name not in ("checkpoint", "remat2"):
        return None
    return core.ClosedJaxpr(eqn.params["jaxpr"], ())


@contextlib.contextmanager
def at_equation(eqn: core.JaxprEqn) -> Iterator[None]:
    """Let what is traced within carry the equation's source line and name stack."""
    stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
    with source_info_util.user_context(eqn.source_info.traceback, name_stack=stack):
        yield


def is_on_host(aval: Any) -> bool:
    """Whether an abstract value lies in host memory."""
    return getattr(aval, "memory_space", None) == jax.memory.Space.Host


def bind_equation(eqn: core.JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
    """Execute (or trace) one equation on `inputs`; always returns a sequence.

    `get_bind_params` returned a pair before JAX 0.9.2 and returns one dictionary
    since. The user's source line and name stack go with the equation.
    """
    params = eqn.primitive.get_bind_params(eqn.params)
    functions: Sequence[Any] = ()
    if isinstance(params, tuple):
        functions, params = params
    with at_equation(eqn):
        results = eqn.primitive.bind(*functions, *inputs, **params)
    return results if eqn.primitive.multiple_results else [results]


def is_idle_reshard(eqn: core.JaxprEqn) -> bool:
    """Whether an equation says where an array lies but leaves it to XLA.

    Where a mesh has automatic axes alone, JAX's own code adds such equations, for some
    ways to pass arguments and not for others.
    """
    if eqn.primitive.name != "reshard":
        return False
    kinds = eqn.params["dst_sharding"].mesh.axis_types
    return all(kind is jax.sharding.AxisType.Auto for kind in kinds)


def uses_references(jaxpr: Any) -> bool:
    """Whether a traced function makes, takes, reads or writes a mutable array.

    JAX tells only by the type of the variables (`AbstractRef`) and effects.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    avals = [v.aval for v in (*jaxpr.constvars, *jaxpr.invars)]
    avals += [v.aval for eqn in jaxpr.eqns for v in eqn.outvars]
    return any(type(aval).__name__ == "AbstractRef" for aval in avals) or any(
        uses_references(inner)
        for eqn in jaxpr.eqns
        for inner in core.jaxprs_in_params(eqn.params)
    )


def varying_axes(x: jax.Array) -> frozenset[str]:
    """Axes of a `shard_map` along which the devices hold different values of `x`.

    JAX 0.12 keeps them in the type's `mat.varying`, earlier versions in `vma`.
    """
    aval = jax.typeof(x)
    axes = getattr(getattr(aval, "mat", None), "varying", None)
    return frozenset(getattr(aval, "vma", ()) if axes is None else axes)


def barrier(arrays: Any) -> Any:
    """`jax.lax.optimization_barrier`, for arrays of both memories.

    Before JAX 0.12 its derivative makes zeros on the device for every operand without
    a tangent. The gradient of a gradient then fails on the mismatch with a host array,
    or, behind an integer, in `cond`. Here such operands stay without a tangent.
    """
    if jax.__version_info__ >= (0, 12):
        return jax.lax.optimization_barrier(arrays)
    return _barrier(arrays)


@jax.custom_jvp
def _barrier(arrays: Any) -> Any:
    return jax.lax.optimization_barrier(arrays)


def _barrier_jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    return _barrier(*primals), tangents[0]


_barrier.defjvp(_barrier_jvp, symbolic_zeros=True)


def source_line(eqn: core.JaxprEqn) -> str:
    """Return the line of the user's program that made `eqn`."""
    return source_info_util.summarize(eqn.source_info)


def to_host(x: jax.Array) -> jax.Array:
    """Copy an array to pinned host memory.

    Naming the source lets JAX transpose the copy: without it, the gradient of a
    gradient finds a cotangent in the wrong memory.
    """
    space = jax.memory.Space
    return jax.device_put(x, space.Host, src=space.Device)


def to_device(x: jax.Array) -> jax.Array:
    """Copy an array from pinned host memory to the device."""
    space = jax.memory.Space
    return jax.device_put(x, space.Device, src=space.Host)


def cuda_topology(target_config: str, shape: str) -> topologies.TopologyDescription:
    """Describe GPUs that need not be there, to compile for.

    Works whenever JAX was imported and whatever `JAX_PLATFORMS` says. JAX looks for
    plugins once, at its first use; on a machine without NVIDIA's libraries the CUDA
    plugin refuses to register itself unless told to skip that check, so it is told so
    here and asked again. It can be told by an environment variable alone, which the
    whole process sees. So the variable is set while the plugin registers itself, by
    one thread at a time, and never again.

    Args:
        target_config: Text form of a `GpuTargetConfigProto`.
        shape: Partitions x hosts x GPUs, such as `"1x1x1"`.
    """

    def describe() -> topologies.TopologyDescription:
        return topologies.get_topology_desc(
            platform="cuda", target_config=target_config, topology=shape
        )

    if _registered.is_set():
        with contextlib.suppress(NotImplementedError):
            return describe()
    with _unchecked_cuda_libraries():
        try:
            found = describe()
        except NotImplementedError:
            _cuda_plugin().initialize()
            found = describe()
    _registered.set()
    return found


def start_without_gpu(devices: str = "/dev") -> None:
    """Have JAX look for its devices; on a machine without a GPU, without a traceback.

    Where NVIDIA's libraries are missing, the CUDA plugin prints one when JAX first
    looks for devices, though it is wanted for compiling alone.

    Args:
        devices: The folder in which a GPU's driver puts its files.
    """
    has_gpu = any(pathlib.Path(devices).glob("nvidia[0-9]*"))
    with contextlib.nullcontext() if has_gpu else _unchecked_cuda_libraries():
        jax.devices()


def cuda_plugin_names() -> tuple[str, ...]:
    """Return the modules that may hold JAX's CUDA plugin, preferred first."""
    return ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")


def _cuda_plugin() -> Any:
    for name in cuda_plugin_names():
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    # JAX 0.11 dropped Python 3.11, and of JAX 0.10 the CUDA 12 plugin is the tried one.
    cuda = 12 if sys.version_info < (3, 12) else 13
    raise MissingExtraError(
        "compiling for a GPU needs JAX's CUDA plugin, which is not installed: "
        'pip install "jaxswap[gpu-targets]", or install '
        f"jax-cuda{cuda}-plugin=={jax.__version__} and "
        f"jax-cuda{cuda}-pjrt=={jax.__version__}. No GPU and no CUDA are needed."
    )


# Whether the CUDA plugin has described a GPU, and who may change the environment.
_registered = threading.Event()
_environment = threading.Lock()


@contextlib.contextmanager
def _unchecked_cuda_libraries() -> Iterator[None]:
    variable = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"
    with _environment:
        before = os.environ.get(variable)
        os.environ[variable] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[variable]
            else:
                os.environ[variable] = before
