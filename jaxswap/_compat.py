"""Every question whose answer depends on the versions of JAX, Flax and the plugins.

No other file of jaxswap asks for a version, but for `_base/xla_flags.py`, which has to
come before JAX. Each function here has a test in `tests/test_compat.py`.
"""

import contextlib
import dataclasses
import functools
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
    """Raise for a version of XLA that silently computes wrong gradients.

    On GPUs, jaxlib 0.11.0 reads wrong slices of host arrays in the loops of a backward
    pass (github.com/openxla/xla/issues/46231).

    Raises:
        ImportError: If `version` is such a version. The text names those to install.
    """
    if version == "0.11.0":
        raise ImportError(
            "jaxlib 0.11.0 computes wrong gradients of `jax.lax.scan` where values "
            "are swapped to the host (github.com/openxla/xla/issues/46231), so "
            'jaxswap does not run on it; pip install "jax>=0.10.2,!=0.11.0" '
            '"jaxlib>=0.10.2,!=0.11.0".'
        )


refuse_wrong_jaxlib(importlib.metadata.version("jaxlib"))


def open_jaxpr(jaxpr: Any) -> tuple[core.Jaxpr, Sequence[Any]]:
    """Return the equations and the constants of a traced function.

    `jax.make_jaxpr` returns a `ClosedJaxpr` up to JAX 0.10. From 0.11 on, it returns a
    `Jaxpr` that holds its constants. Both have `.jaxpr` and `.consts`.
    """
    return jaxpr.jaxpr, jaxpr.consts


def without_constants(jaxpr: Any) -> tuple[core.Jaxpr, Sequence[Any]]:
    """Return the equations of a traced function and its constants, apart.

    Up to JAX 0.10, `.jaxpr` holds no constants. From 0.11 on it does. Then variables
    for constants without values come first among the arguments.
    """
    opened, constants = open_jaxpr(jaxpr)
    parts = (opened.outvars, opened.eqns, opened.effects, opened.debug_info)
    return core.Jaxpr(opened.constvars, opened.invars, *parts), constants


def called_jaxpr(eqn: core.JaxprEqn) -> Any | None:
    """Return the traced function that a `jit` equation calls, if it may be inlined.

    A call with shardings of its own, or with donated or static layouts, is left as it
    is. The primitive's name is `pjit` before JAX 0.7 and `jit` since then.
    """
    if eqn.primitive.name not in ("jit", "pjit"):
        return None
    shardings = (*eqn.params["in_shardings"], *eqn.params["out_shardings"])
    if any(type(s).__name__ != "UnspecifiedValue" for s in shardings):
        return None
    return eqn.params["jaxpr"]


def custom_jvp_jaxpr(eqn: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """Return what a `jax.custom_jvp` equation executes. `None` for all others."""
    if eqn.primitive.name != "custom_jvp_call":
        return None
    return eqn.params["call_jaxpr"]


def custom_vjp_jaxpr(eqn: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """Return what a `jax.custom_vjp` equation executes. `None` for all others."""
    if eqn.primitive.name != "custom_vjp_call":
        return None
    return eqn.params["call_jaxpr"]


@dataclasses.dataclass(frozen=True)
class Scan:
    """A `lax.scan` equation, in a form that all versions of JAX share.

    Attributes:
        jaxpr: Its body, of constants, carry and one slice of each scanned array.
        const_count: How many operands are constants.
        carry_count: How many operands are carried. The rest are scanned.
        length: Trip count.
        reverse: Whether it starts with the last slice.
        unroll: How many iterations it runs at a time.
    """

    jaxpr: Any
    const_count: int
    carry_count: int
    length: int
    reverse: bool
    unroll: int


def scan_of(eqn: core.JaxprEqn) -> Scan | None:
    """Describe a `lax.scan` equation. `None` for all others.

    Up to JAX 0.10, `num_consts` and `num_carry` count its operands. In JAX 0.12,
    `ft_in` holds them in three groups.
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
    """Return what a `jax.checkpoint` equation executes. `None` for all others."""
    if eqn.primitive.name not in ("checkpoint", "remat2"):
        return None
    return core.ClosedJaxpr(eqn.params["jaxpr"], ())


def closed_call_jaxpr(eqn: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """Return what a `closed_call` executes. `None` for all others.

    The forward pass of a `jax.checkpoint` is one. JAX 0.12 calls it `eval_jaxpr`.
    """
    is_call = eqn.primitive.name in ("closed_call", "eval_jaxpr")
    return eqn.params["call_jaxpr"] if is_call else None


@contextlib.contextmanager
def at_equation(eqn: core.JaxprEqn) -> Iterator[None]:
    """Give what is traced here the equation's source line, scope and surroundings."""
    stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
    where = source_info_util.user_context(eqn.source_info.traceback, name_stack=stack)
    with where, _surroundings(eqn.ctx):
        yield


@contextlib.contextmanager
def _surroundings(context: Any) -> Iterator[None]:
    """Compute in the place, with the random bits and the notes to XLA of the user."""
    is_bare = context.compute_type is None and not context.xla_metadata
    config: Any = jax.config
    if is_bare and context.threefry_partitionable == config.jax_threefry_partitionable:
        yield
        return
    mesh = jax.sharding.get_abstract_mesh()
    # The mesh may be another one by now.
    with context.manager, jax.sharding.use_abstract_mesh(mesh):
        yield


def has_order(eqn: core.JaxprEqn) -> bool:
    """Whether an equation is a callback that runs in the program's order.

    Only the names of JAX's effects show it: `OrderedIOEffect`, `OrderedDebugEffect`.
    """
    return any(type(effect).__name__.startswith("Ordered") for effect in eqn.effects)


def is_on_host(aval: Any) -> bool:
    """Whether an abstract value is in host memory."""
    return getattr(aval, "memory_space", None) == jax.memory.Space.Host


def bind_equation(eqn: core.JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
    """Execute (or trace) one equation on `inputs`. Always return a sequence.

    `get_bind_params` returned a pair before JAX 0.9.2 and returns one dictionary since
    then. The equation keeps the user's source line and name stack.
    """
    params = eqn.primitive.get_bind_params(eqn.params)
    functions: Sequence[Any] = ()
    if isinstance(params, tuple):
        functions, params = params
    with at_equation(eqn):
        results = eqn.primitive.bind(*functions, *inputs, **params)
    return results if eqn.primitive.multiple_results else [results]


def without_source(eqn: core.JaxprEqn) -> core.JaxprEqn:
    """Return an equation that says nothing of its place in the user's program."""
    return eqn.replace(source_info=source_info_util.new_source_info())


def inlined(call: core.JaxprEqn) -> core.JaxprEqn:
    """Return a `jit` equation that JAX inlines where it is traced.

    `inline` is true or false before JAX 0.11, and one of `jax.Inline` since then.
    """
    kinds = getattr(jax, "Inline", None)
    early = True if kinds is None else kinds.JAX_EARLY
    return call.replace(params={**call.params, "inline": early})


def is_idle(eqn: core.JaxprEqn) -> bool:
    """Whether an equation only returns its operand.

    JAX adds such equations where two types differ in nothing but their mesh. That
    depends on how arguments are passed, and on which GPU is named as the one that
    kernels are written for. `reshard` names an array's place, but on a mesh with only
    automatic axes it leaves the choice to XLA.
    """
    name, params = eqn.primitive.name, eqn.params
    if name == "reshard":
        kinds = params["dst_sharding"].mesh.axis_types
        return all(kind is jax.sharding.AxisType.Auto for kind in kinds)
    if name == "reduce_sum":
        return not params["axes"]
    if name != "reshape" or params["dimensions"] is not None:
        return False
    before: Any = eqn.invars[0].aval
    after: Any = eqn.outvars[0].aval
    is_there = before.sharding.spec == after.sharding.spec
    return is_there and before.shape == after.shape


def uses_references(jaxpr: Any) -> bool:
    """Whether a traced function makes, takes, reads or writes a mutable array.

    JAX shows this only in the type of the variables and in effects. The references
    inside a kernel do not count: the kernel makes them of arrays.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    found = [*jaxpr.constvars, *jaxpr.invars]
    found += [v for eqn in jaxpr.eqns for v in eqn.outvars]
    return any(is_reference(v.aval) for v in found) or any(
        uses_references(inner)
        for eqn in jaxpr.eqns
        if not is_kernel(eqn)
        for inner in core.jaxprs_in_params(eqn.params)
    )


def is_kernel(eqn: core.JaxprEqn) -> bool:
    """Whether an equation takes arrays, and gives references to what it executes.

    So do all kernels of Pallas, whatever their primitive is called.
    """
    return not any(is_reference(v.aval) for v in eqn.invars) and any(
        is_reference(v.aval)
        for inner in core.jaxprs_in_params(eqn.params)
        for v in getattr(inner, "jaxpr", inner).invars
    )


def is_reference(aval: Any) -> bool:
    """Whether an abstract value is a mutable array."""
    return type(aval).__name__ == "AbstractRef"


def varying_axes(x: jax.Array) -> frozenset[str]:
    """Axes of a `shard_map` along which the devices hold different values of `x`.

    JAX 0.12 keeps them in the type's `mat.varying`, earlier versions in `vma`.
    """
    aval = jax.typeof(x)
    axes = getattr(getattr(aval, "mat", None), "varying", None)
    return frozenset(getattr(aval, "vma", ()) if axes is None else axes)


@functools.cache
def has_compiler_option(name: str) -> bool:
    """Whether the installed XLA has an option that is true or false.

    An unknown option is an error when a program is compiled, and only then.
    """
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options={name: True})
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True


def source_line(eqn: core.JaxprEqn) -> str:
    """Return the line of the user's program that made `eqn`."""
    return source_info_util.summarize(eqn.source_info)


def to_host(x: jax.Array) -> jax.Array:
    """Copy an array to pinned host memory.

    The copy names its source, so that JAX can transpose it. Otherwise the gradient of a
    gradient finds a cotangent in the wrong memory.
    """
    space = jax.memory.Space
    return jax.device_put(x, space.Host, src=space.Device)


def to_device(x: jax.Array) -> jax.Array:
    """Copy an array from pinned host memory to the device."""
    space = jax.memory.Space
    return jax.device_put(x, space.Device, src=space.Host)


def cuda_topology(target_config: str, shape: str) -> topologies.TopologyDescription:
    """Describe GPUs to compile for. They need not be in this machine.

    This works whenever JAX was imported, and for any `JAX_PLATFORMS`. JAX looks for
    plugins once, when it is first used. Without NVIDIA's libraries the CUDA plugin does
    not register itself, unless an environment variable tells it to skip that check. So
    the plugin is asked again here, with this variable set. The whole process sees the
    variable. So it is set only while the plugin registers itself, by one thread at a
    time, and never again.

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
    """Let JAX look for its devices. On a machine without a GPU, hide a traceback.

    If NVIDIA's libraries are missing, the CUDA plugin prints a traceback when JAX first
    looks for devices. But the plugin is only needed to compile.

    Args:
        devices: The folder in which a GPU's driver puts its files.
    """
    has_gpu = any(pathlib.Path(devices).glob("nvidia[0-9]*"))
    with contextlib.nullcontext() if has_gpu else _unchecked_cuda_libraries():
        jax.devices()


def cuda_plugin_names() -> tuple[str, ...]:
    """Return the modules that may hold JAX's CUDA plugin, the preferred one first."""
    return ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")


def _cuda_plugin() -> Any:
    for name in cuda_plugin_names():
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    # Python 3.11 has JAX 0.10 at most, which is tested with the CUDA 12 plugin.
    cuda = 12 if sys.version_info < (3, 12) else 13
    raise MissingExtraError(
        "compiling for a GPU needs JAX's CUDA plugin, which is not installed: "
        'pip install "jaxswap[gpu-targets]", or install '
        f"jax-cuda{cuda}-plugin=={jax.__version__} and "
        f"jax-cuda{cuda}-pjrt=={jax.__version__}. No GPU and no CUDA are needed."
    )


# Whether the CUDA plugin has described a GPU; and the lock for the environment.
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
