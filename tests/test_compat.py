"""Answers that differ between versions of JAX."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import io_callback
from jax.experimental import pallas as pl

from jaxswap import _compat

X = jnp.arange(4.0)


def test_a_jaxlib_with_wrong_gradients_is_refused() -> None:
    with pytest.raises(ImportError, match=r"0\.11\.0 computes wrong .* pip install"):
        _compat.refuse_wrong_jaxlib("0.11.0")
    for version in ("0.10.2", "0.11.1", "0.12.0"):
        _compat.refuse_wrong_jaxlib(version)


def test_open_jaxpr_finds_equations_and_constants() -> None:
    table = np.arange(4.0, dtype=np.float32)
    jaxpr, consts = _compat.open_jaxpr(jax.make_jaxpr(lambda x: x + table)(X))
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["add"]
    assert len(consts) == len(jaxpr.constvars)


def test_without_constants_the_equations_hold_no_array() -> None:
    table = jnp.arange(4.0) + X
    closed = jax.make_jaxpr(lambda x: x + table)(X)
    jaxpr, constants = _compat.without_constants(closed)
    assert len(constants) == 1
    assert len(jaxpr.constvars) + len(jaxpr.invars) == 2
    assert not getattr(jaxpr, "consts", ())


@pytest.mark.parametrize("ordered", [False, True])
def test_callbacks_with_an_order_are_found(ordered: bool) -> None:
    def fn(x: jax.Array) -> None:
        jax.debug.print("{}", x, ordered=ordered)
        io_callback(lambda x: None, None, x, ordered=ordered)

    eqns = jax.make_jaxpr(fn)(X).jaxpr.eqns
    assert [_compat.has_order(eqn) for eqn in eqns] == [ordered] * 2


def test_called_jaxpr_opens_plain_jit_only() -> None:
    plain = jax.make_jaxpr(jax.jit(jnp.sin))(X).jaxpr.eqns[0]
    assert _compat.called_jaxpr(plain) is not None
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    placed = jax.make_jaxpr(jax.jit(jnp.sin, in_shardings=device))(X).jaxpr.eqns[0]
    assert _compat.called_jaxpr(placed) is None
    sine = jax.make_jaxpr(jnp.sin)(X).jaxpr.eqns[0]
    assert _compat.called_jaxpr(sine) is None


def test_scan_of_counts_operands_and_tells_how_the_loop_runs() -> None:
    def fn(x: jax.Array) -> object:
        step = lambda carry, y: ((carry[0] + y * x, carry[1] + 1), y)  # noqa: E731
        return jax.lax.scan(step, (x, 1), jnp.ones((3, 4)), reverse=True, unroll=3)

    eqns = _compat.open_jaxpr(jax.make_jaxpr(fn)(X))[0].eqns
    (found,) = [s for s in map(_compat.scan_of, eqns) if s is not None]
    assert (found.const_count, found.carry_count) == (1, 2)
    assert (found.length, found.reverse, found.unroll) == (3, True, 3)
    assert len(_compat.open_jaxpr(found.jaxpr)[0].invars) == 4


def test_checkpointed_is_what_a_checkpoint_executes() -> None:
    eqn = jax.make_jaxpr(jax.checkpoint(lambda x: jnp.sin(x) * X))(X).jaxpr.eqns[-1]
    found = _compat.checkpointed(eqn)
    assert found is not None
    assert [e.primitive.name for e in found.jaxpr.eqns] == ["sin", "mul"]
    assert _compat.checkpointed(found.jaxpr.eqns[0]) is None


def test_what_a_custom_jvp_executes() -> None:
    sine = jax.custom_jvp(jnp.sin)
    sine.defjvps(lambda t, y, x: t)
    eqn = jax.make_jaxpr(sine)(X).jaxpr.eqns[-1]
    found = _compat.custom_jvp_jaxpr(eqn)
    assert found is not None
    assert [e.primitive.name for e in found.jaxpr.eqns] == ["sin"]
    assert _compat.custom_jvp_jaxpr(found.jaxpr.eqns[0]) is None


def test_custom_vjp_jaxpr_is_what_runs_without_a_gradient() -> None:
    @jax.custom_vjp
    def sine(x: jax.Array) -> jax.Array:
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, c: (c * jnp.cos(x),))
    (eqn,) = jax.make_jaxpr(sine)(X).eqns
    found = _compat.custom_vjp_jaxpr(eqn)
    assert found is not None
    assert [e.primitive.name for e in found.jaxpr.eqns] == ["sin"]
    assert _compat.custom_vjp_jaxpr(found.jaxpr.eqns[0]) is None


def test_is_on_host_tells_memories_apart() -> None:
    copied = jax.make_jaxpr(_compat.to_host)(X)
    jaxpr, _ = _compat.open_jaxpr(copied)
    assert _compat.is_on_host(jaxpr.outvars[0].aval)
    assert not _compat.is_on_host(jaxpr.invars[0].aval)


@pytest.mark.parametrize(
    "fn",
    [
        jnp.sin,
        jax.jit(jnp.sin),
        jax.nn.relu,
        lambda x: jax.lax.scan(lambda c, _: (c * 2.0, c), x, length=2),
        lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
    ],
)
def test_bind_equation_executes_any_equation(fn: object) -> None:
    assert callable(fn)
    traced = jax.make_jaxpr(fn)(X)
    env = dict(zip(traced.jaxpr.invars, [X], strict=True))
    for eqn in traced.jaxpr.eqns:
        inputs = [a.val if hasattr(a, "val") else env[a] for a in eqn.invars]
        env.update(zip(eqn.outvars, _compat.bind_equation(eqn, inputs), strict=True))
    results = [env[v] for v in traced.jaxpr.outvars]
    for got, expected in zip(results, jax.tree.leaves(fn(X)), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_bind_equation_keeps_the_users_scope() -> None:
    def fn(x: jax.Array) -> jax.Array:
        with jax.named_scope("mine"):
            return jnp.sin(x)

    eqn = jax.make_jaxpr(fn)(X).jaxpr.eqns[0]
    again = jax.make_jaxpr(lambda x: _compat.bind_equation(eqn, [x]))(X).jaxpr.eqns[0]
    assert str(again.source_info.name_stack) == "mine"
    assert _compat.source_line(again) == _compat.source_line(eqn)
    assert "test_compat.py" in _compat.source_line(eqn)


def test_copies_change_the_memory_space_and_nothing_else() -> None:
    def there_and_back(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        host = _compat.to_host(x)
        return host, _compat.to_device(host)

    avals = jax.make_jaxpr(there_and_back)(X).out_avals
    spaces = [aval.memory_space for aval in avals]
    assert spaces == [jax.memory.Space.Host, jax.memory.Space.Device]
    np.testing.assert_array_equal(jax.jit(there_and_back)(X)[1], X)


def test_copies_can_be_transposed() -> None:
    def fn(x: jax.Array) -> jax.Array:
        return (_compat.to_device(_compat.to_host(x)) ** 2).sum()

    np.testing.assert_array_equal(jax.jit(jax.grad(fn))(X), 2 * X)


def test_references_are_found_wherever_they_stand() -> None:
    def writes(x: jax.Array) -> jax.Array:
        ref = jax.new_ref(x)
        ref[...] = x + 1
        return ref[...]

    assert _compat.uses_references(jax.make_jaxpr(writes)(X))
    assert _compat.uses_references(jax.make_jaxpr(jax.jit(writes))(X))
    assert not _compat.uses_references(jax.make_jaxpr(jax.jit(jnp.sin))(X))


def test_references_inside_a_kernel_are_its_own() -> None:
    def body(x: Any, y: Any) -> None:
        y[...] = x[...]

    def kernel(x: jax.Array) -> jax.Array:
        return pl.pallas_call(body, jax.ShapeDtypeStruct(x.shape, x.dtype))(x)

    def of_a_reference(x: jax.Array) -> jax.Array:
        ref = jax.new_ref(x)
        ref[...] = kernel(ref[...])
        return ref[...]

    (eqn,) = jax.make_jaxpr(kernel)(X).jaxpr.eqns
    assert _compat.is_kernel(eqn)
    assert not _compat.uses_references(jax.make_jaxpr(jax.jit(kernel))(X))
    assert _compat.uses_references(jax.make_jaxpr(of_a_reference)(X))


def test_varying_axes_are_those_of_shard_map() -> None:
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    seen = []

    def local(x: jax.Array, y: jax.Array) -> jax.Array:
        seen.extend([_compat.varying_axes(x), _compat.varying_axes(y)])
        return x

    jax.shard_map(local, mesh=mesh, in_specs=(spec("i"), spec()), out_specs=spec("i"))(
        X, X
    )
    assert seen == [frozenset({"i"}), frozenset()]


def test_jax_starts_without_a_traceback_where_there_is_no_gpu(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"
    monkeypatch.delenv(variable, raising=False)
    seen: list[str | None] = []
    monkeypatch.setattr(jax, "devices", lambda: seen.append(os.environ.get(variable)))
    _compat.start_without_gpu(str(tmp_path))
    (tmp_path / "nvidia0").touch()
    _compat.start_without_gpu(str(tmp_path))
    assert seen == ["1", None]
    assert variable not in os.environ


def test_xla_says_which_options_it_has() -> None:
    assert _compat.has_compiler_option("xla_gpu_enable_latency_hiding_scheduler")
    assert not _compat.has_compiler_option("xla_option_of_another_version")


def test_inlined_calls_leave_their_equations_where_they_are_called() -> None:
    (call,) = jax.make_jaxpr(jax.jit(lambda x: jnp.sin(x) * 2))(X).jaxpr.eqns

    def fn(x: jax.Array) -> Any:
        return call.primitive.bind(x, **_compat.inlined(call).params)

    eqns = jax.make_jaxpr(fn)(X).jaxpr.eqns
    assert [eqn.primitive.name for eqn in eqns] == ["sin", "mul"]


def test_without_its_source_an_equation_has_no_scope() -> None:
    def fn(x: jax.Array) -> jax.Array:
        with jax.named_scope("layer"):
            return jax.lax.sin(x)

    (eqn,) = jax.make_jaxpr(fn)(X).jaxpr.eqns
    assert str(eqn.source_info.name_stack) == "layer"
    bare = _compat.without_source(eqn)
    assert str(bare.source_info.name_stack) == _compat.source_line(bare) == ""
    assert bare.primitive is eqn.primitive


@pytest.mark.parametrize(
    ("fn", "is_idle"),
    [
        (lambda x: lax.reduce_sum_p.bind(x, axes=(), out_sharding=None), True),
        (lambda x: jnp.sum(x, 0), False),
        (lambda x: shaped_as(x, (2, 2)), True),
        (lambda x: shaped_as(x, (4,)), False),
        (lambda x: lax.reshape(x, (2, 2), (1, 0)), False),
        (lambda x: -x, False),
    ],
)
def test_equations_that_return_their_operand_are_found(
    fn: Callable[[jax.Array], Any], is_idle: bool
) -> None:
    (eqn,) = jax.make_jaxpr(fn)(jnp.ones((2, 2))).eqns
    assert _compat.is_idle(eqn) == is_idle


def shaped_as(x: jax.Array, shape: tuple[int, ...]) -> Any:
    return lax.reshape_p.bind(x, new_sizes=shape, dimensions=None, sharding=None)
