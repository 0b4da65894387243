"""`jax.export` of offloaded functions, with symbolic dimensions, for other devices."""

import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

import jaxswap
from jaxswap import KEEP, OFFLOAD, RECOMPUTE

W = jnp.linspace(-0.5, 0.5, 256, dtype=jnp.float32).reshape(16, 16)
TYPE = jax.ShapeDtypeStruct(W.shape, W.dtype)
PLATFORMS = ("cpu", "cuda")


def mlp(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.mean(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)


def loop(w: jax.Array, x: jax.Array) -> jax.Array:
    step = lambda carry, _: (jnp.tanh(carry @ w), jnp.sum(carry, axis=0))  # noqa: E731
    carry, sums = jax.lax.scan(step, x, None, length=3)
    return jnp.mean(carry) + jnp.mean(sums)


def over_rows(w: jax.Array, x: jax.Array) -> jax.Array:
    step = lambda carry, row: (jnp.tanh(carry @ w) + row, None)  # noqa: E731
    return jnp.mean(jax.lax.scan(step, jnp.ones(16), x)[0] ** 2)


def calls(w: jax.Array, x: jax.Array) -> jax.Array:
    block = jax.checkpoint(lambda x: jnp.tanh(jnp.pad(x, ((1, 1), (0, 0)))[2:] @ w))
    return jnp.mean(jax.nn.softmax(jax.jit(block)(x).reshape(-1, 4), axis=0) ** 2)


def rows(count: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(count).normal(size=(count, 16)), W.dtype)


def batches() -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*export.symbolic_shape("b"), 16), jnp.float32)


def exported(fn: Callable[..., Any], *types: Any) -> export.Exported:
    return export.export(jax.jit(fn), platforms=PLATFORMS)(*types)


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fn", "policy"),
    [
        (mlp, None),
        (mlp, OFFLOAD),
        (mlp, RECOMPUTE),
        (mlp, jaxswap.LMS()),
        (loop, OFFLOAD),
        (loop, RECOMPUTE),
        (over_rows, OFFLOAD),
        (calls, None),
        (calls, OFFLOAD),
        (calls, KEEP),
    ],
)
def test_gradients_for_any_number_of_rows(fn: Any, policy: Any) -> None:
    grad = jax.value_and_grad(jaxswap.offload(fn, policy=policy), (0, 1))
    program = exported(grad, TYPE, batches())
    has_swaps = "annotate_device_placement" in program.mlir_module()
    assert has_swaps == (policy is OFFLOAD)
    for count in (1, 3, 8):
        expected = jax.jit(jax.value_and_grad(fn, (0, 1)))(W, rows(count))
        assert_same(program.call(W, rows(count)), expected)


@jax.numpy_dtype_promotion("standard")
def test_a_function_and_a_training_step() -> None:
    optimizer = optax.adam(1e-2)
    loss = jaxswap.offload(mlp)
    assert_same(exported(loss, TYPE, batches()).call(W, rows(3)), mlp(W, rows(3)))

    def step(loss: Any, w: Any, state: Any, x: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(w, x)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(w, updates), jax.tree.leaves(state), value

    state = optimizer.init(W)
    leaves, structure = jax.tree.flatten(state)

    def of_leaves(w: Any, leaves: Any, x: Any) -> Any:
        return step(loss, w, jax.tree.unflatten(structure, leaves), x)

    types = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves]
    program = exported(of_leaves, TYPE, types, batches())
    assert_same(program.call(W, leaves, rows(5)), step(mlp, W, state, rows(5)))


def test_a_policy_is_asked_about_numbers() -> None:
    seen = []
    policy = lambda value: seen.append(value) or KEEP  # noqa: E731
    exported(jax.grad(jaxswap.offload(loop, policy=policy)), TYPE, batches())
    assert seen
    assert all(isinstance(n, int) for v in seen for n in (*v.shape, v.nbytes))


@pytest.mark.parametrize("fn", [mlp, loop])
def test_a_plan_for_a_typical_size_is_followed(fn: Any) -> None:
    typical = jax.ShapeDtypeStruct((64, 16), jnp.float32)
    plan = jaxswap.plan(
        fn, TYPE, typical, target="h100", policy=OFFLOAD, compile=False, progress=False
    )
    program = exported(jax.grad(jaxswap.offload(fn, plan=plan)), TYPE, batches())
    swaps = program.mlir_module().count("annotate_device_placement")
    same = exported(jax.grad(jaxswap.offload(fn, plan=plan)), TYPE, typical)
    assert swaps == same.mlir_module().count("annotate_device_placement") > 0
    assert_same(program.call(W, rows(5)), jax.grad(fn)(W, rows(5)))
    small = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    wrong = jax.ShapeDtypeStruct((*export.symbolic_shape("b"), 8), jnp.float32)
    with pytest.raises(ValueError, match="the plan was made for") as caught:
        exported(jax.grad(jaxswap.offload(fn, plan=plan)), small, wrong)
    assert "dimensions (b) count as in" in str(caught.value.__notes__)


def test_a_budget_says_what_to_do() -> None:
    for options in ({"budget": "1MiB"}, {"budget": "1MiB", "target": "h100"}):
        grad = jax.grad(jaxswap.offload(mlp, **options))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"dimensions \(b\).*offload\(fn, plan="):
            exported(grad, TYPE, batches())
    with pytest.raises(ValueError, match=r"symbolic dimensions \(b\)"):
        jaxswap.plan(mlp, TYPE, batches(), target="h100", progress=False)


def test_the_default_with_a_gpu_to_plan_for_needs_no_bytes() -> None:
    grad = jax.grad(jaxswap.offload(mlp, target="h100"))
    assert_same(
        exported(grad, TYPE, batches()).call(W, rows(2)), jax.grad(mlp)(W, rows(2))
    )


def test_an_exported_gradient_runs_in_another_process(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("flatbuffers")
    grad = jax.grad(jaxswap.offload(mlp, policy=OFFLOAD))
    (tmp_path / "grad.bin").write_bytes(exported(grad, TYPE, batches()).serialize())
    np.savez(tmp_path / "arrays.npz", w=W, x=rows(3))
    code = (
        "import sys, numpy as np, jax.export\n"
        "grad = jax.export.deserialize(bytearray(open('grad.bin', 'rb').read()))\n"
        "arrays = np.load('arrays.npz')\n"
        "np.save('found.npy', grad.call(arrays['w'], arrays['x']))\n"
        "assert 'jaxswap' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert_same(np.load(tmp_path / "found.npy"), jax.grad(mlp)(W, rows(3)))
