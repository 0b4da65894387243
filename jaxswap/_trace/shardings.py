"""JAX's shardings <-> `Placement`."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jaxswap._graph.placement import Placement, Spec


def placement_of(arrays: Sequence[Any]) -> Placement | None:
    """Read from the types of arrays how they are split along explicit axes.

    Args:
        arrays: The operands of a function.

    Returns:
        The placement. `None` if each device holds all of them, or if the code is that
        of one device (`jax.shard_map`).

    Raises:
        ValueError: If they lie on different meshes.
    """
    types = [getattr(jax.typeof(array), "sharding", None) for array in arrays]
    return placement_from(arrays, types)


def placement_from(arrays: Sequence[Any], shardings: Sequence[Any]) -> Placement | None:
    """Return `placement_of` for known shardings. `None`: one copy on each device."""
    named = [s for s in shardings if isinstance(s, NamedSharding) and any(s.spec)]
    if not named or any(AxisType.Manual in s.mesh.axis_types for s in named):
        return None
    meshes = {(s.mesh.axis_names, s.mesh.axis_sizes) for s in named}
    if len(meshes) > 1:
        shown = " and ".join(
            str(dict(zip(names, sizes, strict=True))) for names, sizes in meshes
        )
        raise ValueError(f"the arguments are on different meshes: {shown}.")
    mesh = named[0].mesh
    types = zip(mesh.axis_names, mesh.axis_types, strict=True)
    placement = Placement(
        axes=tuple(zip(mesh.axis_names, mesh.axis_sizes, strict=True)),
        explicit=tuple(name for name, kind in types if kind is AxisType.Explicit),
        operands=(),
    )
    specs = tuple(
        placement.fitting(array.shape, dimensions_of(s.spec, len(array.shape)))
        if isinstance(s, NamedSharding)
        else ((),) * len(array.shape)
        for array, s in zip(arrays, shardings, strict=True)
    )
    return Placement(placement.axes, placement.explicit, specs)


def dimensions_of(spec: Iterable[Any], rank: int) -> list[Sequence[str]]:
    """Return the mesh axes of each dimension, from a `PartitionSpec`."""
    named: list[Sequence[str]] = [
        entry if isinstance(entry, tuple) else (entry,) if entry else ()
        for entry in spec
    ]
    return [*named, *[()] * (rank - len(named))]


def broadcast_prefix(prefix: Any, tree: Any) -> list[Any]:
    """Return a sharding or `None` for each leaf of a tree, from a prefix of the tree.

    Raises:
        ValueError: If `prefix` is no prefix of the tree, or a spec has no mesh.
    """
    found: list[Any] = []

    def add(sharding: Any, subtree: Any) -> None:
        found.extend([_named(sharding)] * len(jax.tree.leaves(subtree)))

    jax.tree.map(add, prefix, tree, is_leaf=lambda x: x is None or _is_sharding(x))
    return found


def checked_shardings(in_shardings: Any) -> Any:
    """Return a pytree of shardings, of specs of the current mesh, and of `None`.

    Raises:
        TypeError: If it holds anything else.
    """
    for leaf in jax.tree.leaves(in_shardings, is_leaf=_is_sharding):
        if not _is_sharding(leaf):
            raise TypeError(
                f"`in_shardings` holds {leaf!r}; it must hold shardings as jax.jit "
                "takes them: jax.sharding.NamedSharding, jax.P or None."
            )
    return in_shardings


def _is_sharding(x: Any) -> bool:
    return isinstance(x, (jax.sharding.Sharding, PartitionSpec))


def _named(sharding: Any) -> Any:
    """Return a sharding. A spec is one of the mesh that is set."""
    if not isinstance(sharding, PartitionSpec):
        return sharding
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        raise ValueError(
            f"`in_shardings` holds {sharding}, which needs a mesh: set one with "
            "jax.set_mesh, or give a jax.sharding.NamedSharding."
        )
    return NamedSharding(mesh, sharding)


def is_explicit(sharding: Any) -> bool:
    """Whether a sharding is part of the type of arrays that have it."""
    is_named = isinstance(sharding, NamedSharding)
    return is_named and AxisType.Explicit in sharding.mesh.axis_types


def is_typed(aval: Any, spec: Spec, placement: Placement) -> bool:
    """Whether a type and a spec agree about the explicit axes."""
    explicit = [[n for n in names if n in placement.explicit] for names in spec]
    typed = dimensions_of(aval.sharding.spec, len(aval.shape))
    return explicit == [list(names) for names in typed]


def mesh_of(placement: Placement) -> AbstractMesh:
    """Return the mesh of a placement, without devices. If an equal one is set, that.

    If a mesh is set (`jax.set_mesh`), JAX accepts no other one.
    """
    current = jax.sharding.get_abstract_mesh()
    names, sizes = zip(*placement.axes, strict=True)
    if (current.axis_names, current.axis_sizes) == (names, sizes):
        return current
    kinds = {True: AxisType.Explicit, False: AxisType.Auto}
    types = tuple(kinds[name in placement.explicit] for name in names)
    return AbstractMesh(sizes, names, axis_types=types)


def partition_of(spec: Spec) -> PartitionSpec:
    """Return a spec in JAX's form."""
    return PartitionSpec(*(names or None for names in spec))


def sharding_of(placement: Placement, spec: Spec) -> NamedSharding:
    """Return the sharding of an array with this spec."""
    return NamedSharding(mesh_of(placement), partition_of(spec))
