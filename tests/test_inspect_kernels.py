"""Kernels in Pallas are compiled for GPUs that are not in the machine."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import jaxswap

ROWS = 128
X = jax.ShapeDtypeStruct((4 * ROWS, 64), jnp.float32)

# Pallas warns that kernels in Triton will not be there for good.
pytestmark = pytest.mark.filterwarnings("ignore:.*Triton:DeprecationWarning")


def double(x: jax.Array) -> jax.Array:
    """Twice `x`, by a kernel."""

    def kernel(x_ref, y_ref):
        y_ref[...] = 2 * x_ref[...]

    block = pl.BlockSpec((ROWS, x.shape[1]), lambda row: (row, 0))
    return pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        grid=(x.shape[0] // ROWS,),
        in_specs=[block],
        out_specs=block,
        compiler_params=triton.CompilerParams(num_warps=4),
    )(x)


double_and_back = jax.custom_vjp(double)
double_and_back.defvjp(lambda x: (double(x), None), lambda _, g: (double(g),))


@pytest.mark.parametrize("target", ["h200", "a100-80"])
@pytest.mark.parametrize("wrap", [lambda fn: fn, jax.jit, jaxswap.jit])
def test_a_kernel_is_compiled(target: str, wrap) -> None:
    seen = jaxswap.inspect(wrap(double), X, target=target)
    assert "__gpu$xla.gpu.triton" in seen.hlo_text
    assert seen.argument_bytes == seen.output_bytes == 4 * ROWS * 64 * 4


def in_a_call(x: jax.Array) -> jax.Array:
    return jax.jit(double_and_back)(x)


def in_a_loop(x: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda x, _: (double_and_back(jnp.sin(x)), None), x, None, 3)[0]


def in_a_branch(x: jax.Array) -> jax.Array:
    return jax.lax.cond(x[0, 0] > 0, double_and_back, jnp.sin, x)


@pytest.mark.parametrize("call", [double_and_back, in_a_call, in_a_loop, in_a_branch])
def test_a_kernel_is_compiled_under_a_plan(call) -> None:
    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(call(jnp.sin(x @ w))) ** 2)

    w = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    plan = jaxswap.plan(loss, X, w, target="h200", progress=False)
    assert plan.compiled is not None
    step = jax.value_and_grad(jaxswap.offload(loss, plan=plan))
    assert "xla.gpu.triton" in jaxswap.inspect(step, X, w, target="h200").hlo_text


@pytest.mark.parametrize("count", [1, 4])
def test_a_plan_fits_whichever_gpu_kernels_are_written_for(count: int) -> None:
    """The types of arguments do not name that GPU, those of results do."""
    split = NamedSharding(Mesh(jax.devices()[:count], "x"), PartitionSpec("x"))
    image = jax.ShapeDtypeStruct(
        X.shape, X.dtype, sharding=split if count > 1 else None
    )

    def loss(arguments: tuple[jax.Array, ...]) -> jax.Array:
        w, *x = arguments
        total = x[0]
        for _ in range(3):
            total = jnp.tanh(total @ w) + total
        return jnp.sum(total**2) + jnp.sum(x[0] + x[1]) + (x[2] + x[3])

    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    w = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    arguments = (w, image, image, scalar, scalar)
    plan = jaxswap.plan(loss, arguments, target="h200", progress=False)
    step = jax.value_and_grad(jaxswap.offload(loss, plan=plan))
    assert jaxswap.inspect(step, arguments, target="h200").hlo_text
    assert jax.jit(step).lower(arguments).as_text()


def test_a_kernel_is_compiled_for_every_gpu_of_a_mesh() -> None:
    mesh = Mesh(jax.devices()[:4], "x", axis_types=(AxisType.Auto,))
    rows = PartitionSpec("x")
    x = jax.ShapeDtypeStruct(X.shape, X.dtype, sharding=NamedSharding(mesh, rows))
    with jax.set_mesh(mesh):
        split = jax.shard_map(double, in_specs=rows, out_specs=rows, check_vma=False)
        seen = jaxswap.inspect(split, x, target="h200")
    assert "xla.gpu.triton" in seen.hlo_text
    assert seen.argument_bytes == ROWS * 64 * 4


def test_a_kernel_of_pinned_arguments_is_compiled() -> None:
    one = Mesh(jax.devices()[:1], "x")
    pinned = NamedSharding(one, PartitionSpec(), memory_kind="pinned_host")
    x = jax.ShapeDtypeStruct(X.shape, X.dtype, sharding=pinned)

    def program(x: jax.Array) -> jax.Array:
        return double(jax.device_put(x, jax.memory.Space.Device))

    assert "xla.gpu.triton" in jaxswap.inspect(program, x, target="h200").hlo_text
