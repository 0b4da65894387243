"""An offloaded function whose arrays are split over several devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from zoo import normal

import jaxswap

POLICIES: dict[str, Any] = {
    "default": None,
    "offload": jaxswap.OFFLOAD,
    "recompute": jaxswap.RECOMPUTE,
    "lms": jaxswap.LMS(1, 1, min_bytes=0),
}
MESHES: dict[str, dict[str, int]] = {
    "data 2": {"data": 2},
    "depth 2": {"depth": 2},
    "data 4": {"data": 4},
    "depth 4": {"depth": 4},
    "data 2, depth 2": {"data": 2, "depth": 2},
    "data 8": {"data": 8},
    "depth 8": {"depth": 8},
    "data 4, depth 2": {"data": 4, "depth": 2},
    "data 2, depth 4": {"data": 2, "depth": 4},
}
Params = dict[str, jax.Array]
X = normal(8, 16, 6, 6, 2)
PARAMS: Params = {
    "first": 0.3 * normal(3, 3, 3, 2, 4),
    "down": 0.3 * normal(3, 3, 3, 4, 4),
    "up": 0.3 * normal(2, 2, 2, 4, 4),
    "scale": normal(4),
    "head": normal(4, 3),
}


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride,) * 3, "SAME", dimension_numbers=numbers
    )


def loss(params: Params, x: jax.Array) -> jax.Array:
    """Two levels of a U-Net: strides, transposed strides, sums over all of space."""
    h = jnp.tanh(convolve(x, params["first"]))
    h = h * lax.broadcast_in_dim(params["scale"], h.shape, (4,))
    low = jnp.tanh(convolve(h, params["down"], 2))
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    up = lax.conv_transpose(
        low, params["up"], (2, 2, 2), "SAME", dimension_numbers=numbers
    )
    logits = jnp.tanh(up + h) @ params["head"]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) ** 2)


def mesh_of(axes: dict[str, int], kind: AxisType = AxisType.Auto) -> Mesh:
    return jax.make_mesh(
        tuple(axes.values()), tuple(axes), axis_types=(kind,) * len(axes)
    )


def space(axes: dict[str, int]) -> P:
    return P(*(name if name in axes else None for name in ("data", "depth")))


def step(fn: Callable[..., Any]) -> Any:
    return jax.jit(jax.value_and_grad(fn))


def expect_like_plain(found: Any, expected: Any) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert jnp.allclose(a, b, rtol=2e-4, atol=2e-6), jnp.abs(a - b).max()


@pytest.fixture(scope="module")
def expected() -> Any:
    return step(loss)(PARAMS, X)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", MESHES)
def test_gradients_are_those_of_one_device(
    name: str, policy: str, expected: Any
) -> None:
    axes = MESHES[name]
    mesh = mesh_of(axes)
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, space(axes))
    fn = jaxswap.offload(loss, policy=POLICIES[policy], in_shardings=(whole, split))
    arguments = jax.device_put(PARAMS, whole), jax.device_put(X, split)
    expect_like_plain(step(fn)(*arguments), expected)


@pytest.mark.parametrize("name", ["data 4", "data 2, depth 4"])
def test_each_weight_is_summed_over_the_mesh_once(name: str) -> None:
    """All but the loss's wait at the end of the program, behind every barrier."""
    axes = MESHES[name]
    mesh = mesh_of(axes)
    shardings = NamedSharding(mesh, P()), NamedSharding(mesh, space(axes))
    fn = jaxswap.offload(loss, policy=jaxswap.OFFLOAD, in_shardings=shardings)
    jaxpr = jax.make_jaxpr(jax.grad(fn))(PARAMS, X)
    passes = [e.params.get("call_jaxpr") for e in jaxpr.jaxpr.eqns]
    texts = [str(e) for inner in passes if inner for e in inner.jaxpr.eqns]
    sums = [i for i, text in enumerate(texts) if "psum" in text]
    barriers = [i for i, text in enumerate(texts) if "optimization_barrier" in text]
    assert len(sums) == 1 + len(PARAMS)
    assert min(sums[1:]) > max(barriers)


def test_without_shardings_the_gradient_is_right_too(expected: Any) -> None:
    mesh = mesh_of({"data": 4})
    batch = jax.device_put(X, NamedSharding(mesh, P("data")))
    params = jax.device_put(PARAMS, NamedSharding(mesh, P()))
    expect_like_plain(step(jaxswap.offload(loss))(params, batch), expected)


def test_weights_may_be_split_too(expected: Any) -> None:
    mesh = mesh_of({"data": 4})
    by_name = {"head": P("data"), "first": P(None, None, None, None, "data")}
    specs = {name: by_name.get(name, P()) for name in PARAMS}
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    split = NamedSharding(mesh, P("data"))
    fn = jaxswap.offload(loss, policy=jaxswap.OFFLOAD, in_shardings=(shardings, split))
    arguments = jax.device_put(PARAMS, shardings), jax.device_put(X, split)
    expect_like_plain(step(fn)(*arguments), expected)


def mlp(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.mean(x**2)


WEIGHTS = [0.3 * normal(16, 16) for _ in range(4)]
ROWS = normal(32, 16)


@pytest.mark.parametrize("policy", POLICIES)
def test_explicit_axes_need_no_shardings(policy: str) -> None:
    mesh = mesh_of({"data": 4}, AxisType.Explicit)
    with jax.set_mesh(mesh):
        rows = jax.device_put(ROWS, NamedSharding(mesh, P("data")))
        weights = jax.device_put(WEIGHTS, NamedSharding(mesh, P()))
        fn = jaxswap.offload(mlp, policy=POLICIES[policy])
        found = step(fn)(weights, rows)
    expect_like_plain(found, step(mlp)(WEIGHTS, ROWS))


@pytest.mark.parametrize("name", ["data 4", "depth 4", "data 2, depth 2"])
def test_volumes_may_be_split_along_explicit_axes(name: str, expected: Any) -> None:
    axes = MESHES[name]
    mesh = mesh_of(axes, AxisType.Explicit)
    with jax.set_mesh(mesh):
        batch = jax.device_put(X, NamedSharding(mesh, space(axes)))
        params = jax.device_put(PARAMS, NamedSharding(mesh, P()))
        found = step(jaxswap.offload(loss, policy=jaxswap.OFFLOAD))(params, batch)
    expect_like_plain(found, expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_weights_may_be_split_and_gathered_explicitly(policy: str) -> None:
    def gathered(weights: list[jax.Array], rows: jax.Array) -> jax.Array:
        return mlp([jax.sharding.reshard(w, P()) for w in weights], rows)

    mesh = mesh_of({"data": 4}, AxisType.Explicit)
    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, P("data"))
        weights, rows = jax.device_put((WEIGHTS, ROWS), split)
        found = step(jaxswap.offload(gathered, policy=POLICIES[policy]))(weights, rows)
        assert all(gradient.sharding.spec == P("data", None) for gradient in found[1])
    expect_like_plain(found, step(mlp)(WEIGHTS, ROWS))


@pytest.mark.parametrize("policy", POLICIES)
def test_inside_shard_map_the_sums_come_last(policy: str) -> None:
    mesh = mesh_of({"data": 4})
    fn = jaxswap.offload(mlp, policy=POLICIES[policy])

    def local(weights: list[jax.Array], rows: jax.Array) -> jax.Array:
        return lax.pmean(fn(weights, rows), "data")

    specs: dict[str, Any] = {"in_specs": (P(), P("data")), "out_specs": P()}
    found = step(jax.shard_map(local, mesh=mesh, **specs))(WEIGHTS, ROWS)
    expect_like_plain(found, step(mlp)(WEIGHTS, ROWS))


def test_around_shard_map() -> None:
    mesh = mesh_of({"data": 4})

    def whole(weights: list[jax.Array], rows: jax.Array) -> jax.Array:
        def local(weights: list[jax.Array], rows: jax.Array) -> jax.Array:
            return lax.pmean(mlp(weights, rows), "data")

        specs: dict[str, Any] = {"in_specs": (P(), P("data")), "out_specs": P()}
        return jax.shard_map(local, mesh=mesh, **specs)(weights, rows)

    for policy in POLICIES.values():
        found = step(jaxswap.offload(whole, policy=policy))(WEIGHTS, ROWS)
        expect_like_plain(found, step(mlp)(WEIGHTS, ROWS))


def inside_shard_map(loss: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """A loss of the rows that a device has, averaged over all."""

    def local(weights: list[jax.Array], rows: jax.Array) -> jax.Array:
        return lax.pmean(loss(weights, rows), "data")

    specs: dict[str, Any] = {"in_specs": (P(), P("data")), "out_specs": P()}
    return jax.shard_map(local, mesh=mesh, **specs)


def losses_of_twenty_steps(loss: Callable[..., Any], place: Any) -> list[float]:
    weights = place(WEIGHTS, P())
    one_step = step(loss)
    found = []
    for number in range(20):
        value, gradient = one_step(weights, place(ROWS * (1 + number % 3), P("data")))
        weights = jax.tree.map(lambda w, g: w - 0.5 * g, weights, gradient)
        found.append(float(value))
    return found


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("way", ["explicit", "inside", "around"])
def test_twenty_steps_equal_those_of_one_device(way: str, count: int) -> None:
    plain = losses_of_twenty_steps(mlp, lambda tree, spec: tree)
    assert plain[-3] < 0.5 * plain[0]
    kind = AxisType.Explicit if way == "explicit" else AxisType.Auto
    mesh = mesh_of({"data": count}, kind)
    if way == "around":
        fn = jaxswap.offload(inside_shard_map(mlp, mesh), policy=jaxswap.OFFLOAD)
    else:
        fn = jaxswap.offload(mlp, policy=jaxswap.OFFLOAD)
        fn = inside_shard_map(fn, mesh) if way == "inside" else fn
    with jax.set_mesh(mesh):
        found = losses_of_twenty_steps(
            fn, lambda tree, spec: jax.device_put(tree, NamedSharding(mesh, spec))
        )
    assert jnp.allclose(jnp.array(found), jnp.array(plain), rtol=1e-5), (found, plain)


def structs(axes: dict[str, int]) -> tuple[Any, Any]:
    names = tuple(axes)
    mesh = AbstractMesh(
        tuple(axes.values()), names, axis_types=(AxisType.Auto,) * len(names)
    )

    def struct(x: jax.Array, spec: P) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=NamedSharding(mesh, spec)
        )

    return jax.tree.map(lambda x: struct(x, P()), PARAMS), struct(X, space(axes))


@pytest.mark.parametrize("name", ["data 4", "depth 4", "data 2, depth 2"])
def test_a_plan_counts_the_bytes_of_one_device(name: str) -> None:
    options: dict[str, Any] = {"target": "h100", "compile": False, "progress": False}
    alone = jaxswap.plan(loss, PARAMS, X, **options)
    spread = jaxswap.plan(loss, *structs(MESHES[name]), **options)
    batch, params = X.nbytes, sum(p.nbytes for p in PARAMS.values())
    assert alone.all_kept.caller_bytes >= batch + params
    assert spread.all_kept.caller_bytes == alone.all_kept.caller_bytes - 3 * batch // 4
    temp = [p.all_kept.device_bytes - p.all_kept.caller_bytes for p in (alone, spread)]
    assert 0.2 * temp[0] < temp[1] < 0.4 * temp[0]
    assert spread.placement is not None
    assert spread.placement.sizes == MESHES[name]


@pytest.mark.parametrize("name", ["data 4", "data 2, depth 2"])
def test_a_plan_for_a_mesh_is_followed_on_it(
    name: str, expected: Any, tmp_path: Any
) -> None:
    axes = MESHES[name]
    plan = jaxswap.plan(
        loss, *structs(axes), policy=jaxswap.OFFLOAD, target="h100", compile=False
    )
    plan = jaxswap.load_plan(plan.save(tmp_path / "plan.json"))
    mesh = mesh_of(axes)
    params = jax.device_put(PARAMS, NamedSharding(mesh, P()))
    batch = jax.device_put(X, NamedSharding(mesh, space(axes)))
    fn = jaxswap.offload(loss, plan=plan)
    expect_like_plain(step(fn)(params, batch), expected)
    given = jax.jit(
        jax.value_and_grad(fn),
        in_shardings=(NamedSharding(mesh, P()), NamedSharding(mesh, space(axes))),
    )
    expect_like_plain(given(PARAMS, X), expected)


def test_host_copies_are_split_like_what_they_copy() -> None:
    mesh = mesh_of({"data": 4})
    shardings = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    fn = jaxswap.offload(mlp, policy=jaxswap.OFFLOAD, in_shardings=shardings)
    text = step(fn).lower(
        jax.device_put(WEIGHTS, shardings[0]), jax.device_put(ROWS, shardings[1])
    )
    compiled = text.compile()
    assert "all-gather" not in compiled.as_text()


def test_bad_shardings_are_named() -> None:
    one = NamedSharding(mesh_of({"data": 2}), P("data"))
    other = NamedSharding(mesh_of({"data": 4}), P("data"))
    with pytest.raises(ValueError, match="different meshes"):
        jax.make_jaxpr(jax.grad(jaxswap.offload(mlp, in_shardings=([one] * 4, other))))(
            WEIGHTS, ROWS
        )
    with pytest.raises(ValueError, match="`in_shardings` does not fit"):
        jax.make_jaxpr(jax.grad(jaxswap.offload(mlp, in_shardings=(other,))))(
            WEIGHTS, ROWS
        )
    plan = jaxswap.plan(mlp, WEIGHTS, ROWS, target="h100", compile=False)
    with pytest.raises(ValueError, match="`plan` and `in_shardings` are given"):
        jaxswap.offload(mlp, plan=plan, in_shardings=(one, other))
