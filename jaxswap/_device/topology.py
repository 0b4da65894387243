"""A `Target` -> devices that JAX can compile for, with no GPU in the machine.

The devices belong to a compile-only client of JAX's CUDA plugin. They hold no data. A
program that is lowered for arguments on them compiles as it would on the real GPU.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import (
    AbstractMesh,
    Mesh,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
)

from jaxswap import _compat
from jaxswap._gpu.target import Target


def target_mesh(target: Target, like: Mesh | AbstractMesh | None = None) -> Mesh:
    """Make a mesh of compile-only devices.

    Args:
        target: The GPU to imitate.
        like: A mesh. The new mesh has the same axes. By default it has one axis and one
            device.

    Returns:
        A mesh whose devices all belong to one host.

    Raises:
        ImportError: If JAX's CUDA plugin is not installed. The text says what to
            install.
        ValueError: If the plugin cannot compile for this GPU.
    """
    if like is None:
        return Mesh(np.array(_devices(target, 1)), ("device",))
    devices = np.array(_devices(target, like.size)).reshape(like.axis_sizes)
    return Mesh(devices, like.axis_names, axis_types=like.axis_types)


def as_default(target: Target | None) -> AbstractContextManager[None]:
    """Have kernels that are traced now written for a GPU, though it is not here.

    A kernel in Pallas looks for the device that it is written for. It takes that of
    the mesh around it, if there is one, before JAX's default device. The mesh around
    what is traced now keeps its axes, most often none. Without JAX's CUDA plugin
    nothing is changed: nothing can be compiled.

    Args:
        target: The GPU. `None` changes nothing.

    Raises:
        ValueError: If the plugin cannot compile for this GPU.
    """
    if target is None:
        return nullcontext()
    try:
        device = target_mesh(target).abstract_mesh.abstract_device
    except ImportError:
        return nullcontext()
    around = jax.sharding.get_abstract_mesh()
    return jax.sharding.use_abstract_mesh(around.update(abstract_device=device))


def place_on(target: Target, arguments: Any) -> Any:
    """Describe arguments as if they were on a GPU.

    Args:
        target: The GPU to imitate.
        arguments: A pytree. An array that is sharded over a mesh stays sharded in the
            same way, over as many imitated GPUs. Every other array is on all of them.

    Returns:
        The pytree, in which a `jax.ShapeDtypeStruct` replaces each array. It is in
        pinned host memory if the array is, else in device memory. Leaves that are no
        arrays stay as they are.

    Raises:
        ImportError: If JAX's CUDA plugin is not installed.
        ValueError: If the plugin cannot compile for this GPU.
    """
    shardings = [_sharding_over_mesh(leaf) for leaf in jax.tree.leaves(arguments)]
    meshes = [sharding.mesh for sharding in shardings if sharding is not None]
    # Over a mesh of one device, JAX would trace a different program than without one.
    everywhere = (
        NamedSharding(target_mesh(target, meshes[0]), PartitionSpec())
        if meshes
        else SingleDeviceSharding(_devices(target, 1)[0])
    )

    def place(leaf: Any) -> Any:
        if not is_array(leaf):
            return leaf
        sharding = everywhere
        if (own := _sharding_over_mesh(leaf)) is not None:
            sharding = NamedSharding(target_mesh(target, own.mesh), own.spec)
        if memory_kind(leaf):
            sharding = _in_host_memory(target, sharding)
        return jax.ShapeDtypeStruct(
            leaf.shape,
            _dtype(leaf),
            sharding=sharding,
            weak_type=bool(getattr(leaf, "weak_type", False)),
        )

    return jax.tree.map(place, arguments)


def is_array(leaf: Any) -> bool:
    """Tell whether a leaf is an array or describes one."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def memory_kind(leaf: Any) -> str | None:
    """Return `"pinned_host"` for an array in pinned host memory, else None."""
    kind = getattr(getattr(leaf, "sharding", None), "memory_kind", None)
    return kind if kind == "pinned_host" else None


@lru_cache(maxsize=32)
def _devices(target: Target, count: int) -> tuple[Any, ...]:
    # Partitions x hosts in each partition x GPUs in each host.
    shape = f"1x1x{count}"
    try:
        return tuple(_compat.cuda_topology(target.to_text_proto(), shape).devices)
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(
            f"JAX's CUDA plugin cannot compile for `{target.name}`: {error}"
        ) from error


def _sharding_over_mesh(leaf: Any) -> NamedSharding | None:
    """Return the sharding of an array that is on several devices."""
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and sharding.mesh.size > 1:
        return sharding
    return None


def _in_host_memory(
    target: Target, sharding: NamedSharding | SingleDeviceSharding
) -> NamedSharding:
    """Return the same sharding in pinned host memory.

    A compile-only device has no memory kinds, so it forgets which one it was given. A
    mesh without devices remembers it. JAX then takes the devices of other arguments, or
    of the mesh set by `jax.set_mesh`.
    """
    is_over_mesh = isinstance(sharding, NamedSharding)
    mesh = sharding.mesh if is_over_mesh else target_mesh(target)
    spec = sharding.spec if is_over_mesh else PartitionSpec()
    return NamedSharding(mesh.abstract_mesh, spec, memory_kind="pinned_host")


def _dtype(leaf: Any) -> Any:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return leaf.dtype
    return jax.dtypes.canonicalize_dtype(leaf.dtype)
