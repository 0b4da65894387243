"""JAX's shardings are read into placements and written back."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxswap._graph.placement import Placement
from jaxswap._trace.shardings import (
    broadcast_prefix,
    checked_shardings,
    dimensions_of,
    is_explicit,
    mesh_of,
    placement_from,
    placement_of,
    sharding_of,
)

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
MESH = AbstractMesh((2, 4), ("data", "depth"), axis_types=(AUTO, AUTO))
X = jax.ShapeDtypeStruct((4, 8, 3), jnp.float32)


def named(spec: P, mesh: Any = MESH) -> NamedSharding:
    return NamedSharding(mesh, spec)


def test_what_is_known_of_arguments_becomes_a_placement() -> None:
    found = placement_from([X, X, X], [named(P("data", "depth")), None, named(P())])
    assert found == Placement(
        (("data", 2), ("depth", 4)),
        (),
        ((("data",), ("depth",), ()), ((), (), ()), ((), (), ())),
    )


def test_one_device_has_no_placement() -> None:
    assert placement_from([X], [None]) is None
    assert placement_from([X], [named(P())]) is None
    assert placement_of([jnp.ones(3)]) is None


def test_two_meshes_are_refused() -> None:
    other = AbstractMesh((2,), ("data",), axis_types=(AUTO,))
    with pytest.raises(ValueError, match="different meshes"):
        placement_from([X, X], [named(P("data")), named(P("data"), other)])


def test_types_tell_of_explicit_axes() -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(EXPLICIT,))
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.ones((8, 2)), NamedSharding(mesh, P("data")))
        found = []
        jax.make_jaxpr(lambda x: found.append(placement_of([x])) or x)(x)
    assert found[0] == Placement((("data", 4),), ("data",), ((("data",), ()),))


def test_within_shard_map_the_program_is_that_of_one_device() -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(EXPLICIT,))
    found = []

    def local(x: jax.Array) -> jax.Array:
        found.append(placement_of([x]))
        return x

    jax.shard_map(local, mesh=mesh, in_specs=P("data"), out_specs=P("data"))(
        jax.device_put(jnp.ones(8), NamedSharding(mesh, P("data")))
    )
    assert found == [None]


def test_a_sharding_is_written_back() -> None:
    placement = placement_from([X], [named(P("data", None, None))])
    assert placement is not None
    assert sharding_of(placement, placement.operands[0]) == named(P("data", None, None))


def test_where_a_mesh_is_set_it_is_used() -> None:
    mesh = jax.make_mesh((2, 4), ("data", "depth"), axis_types=(AUTO, AUTO))
    placement = Placement((("data", 2), ("depth", 4)), (), ())
    with jax.set_mesh(mesh):
        assert mesh_of(placement) == jax.sharding.get_abstract_mesh()
    assert mesh_of(placement) == MESH


def test_dimensions_that_a_partition_does_not_name_are_whole() -> None:
    spec = P(("data", "depth"), None)
    assert dimensions_of(spec, 3) == [("data", "depth"), (), ()]


def test_only_explicit_axes_are_part_of_types() -> None:
    explicit = AbstractMesh((2,), ("data",), axis_types=(EXPLICIT,))
    assert is_explicit(named(P("data"), explicit))
    assert not is_explicit(named(P("data")))
    assert not is_explicit(None)


def test_a_prefix_holds_for_all_below_it() -> None:
    a, b = named(P("data")), named(P())
    assert broadcast_prefix((a, None), ({"x": 1, "y": 2}, 3)) == [a, a, None]
    assert broadcast_prefix(({"x": a, "y": b}, b), ({"x": 1, "y": 2}, 3)) == [a, b, b]


def test_a_spec_is_one_of_the_mesh_that_is_set() -> None:
    with pytest.raises(ValueError, match="which needs a mesh: set one with"):
        broadcast_prefix(P("data"), (X,))
    mesh = jax.make_mesh((2, 4), ("data", "depth"), axis_types=(AUTO, AUTO))
    with jax.set_mesh(mesh):
        (found,) = broadcast_prefix((P("data"),), (X,))
    assert (found.mesh.shape, found.spec) == (MESH.shape, P("data"))


def test_what_is_no_sharding_is_refused() -> None:
    for right in (None, P("data"), named(P()), (None, {"x": named(P())})):
        assert checked_shardings(right) is right
    for wrong in (5, ("data", None)):
        with pytest.raises(TypeError, match=r"it must hold shardings as jax\.jit"):
            checked_shardings(wrong)
