"""The programs of the benchmarks run, and each way to save memory leaves them alone."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy
import pytest

from benchmarks.methods import METHODS, loss_of, methods_of
from benchmarks.programs import PROGRAMS, TINY, find_program

pytestmark = pytest.mark.thorough

NAMES = "mlp unet3d-128-bf16 unet3d-192-bf16 unet3d-128-fp32 unet3d-192-fp32".split()
NAMES += "transformer-unrolled transformer-scanned resnet50-512".split()
DISTINCT = ["mlp", "unet3d-128-fp32", "transformer-unrolled", "transformer-scanned"]
DISTINCT += ["resnet50-512"]
OWN = [name for name in METHODS if name.startswith(("checkpoint", "JAX offload"))]
OWN = [name for name in OWN if not name.endswith("scheduler off")]
OWN.append("per-tensor list")
WAYS = [(name, way) for name in DISTINCT for way in OWN if way in methods_of(name)]
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
TOLERANCE = 1e-5  # of the norm


@pytest.fixture(autouse=True)
def practitioners_jax() -> Iterator[None]:
    """The settings that JAX has by itself: flax promotes types and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def draw(args: Any) -> Any:
    """Random arrays where there were shapes: numbers, or tokens below ten."""
    random = numpy.random.default_rng(0)

    def array(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        is_token = jnp.issubdtype(leaf.dtype, jnp.integer)
        drawn = random.normal(size=leaf.shape)
        return jnp.asarray(10 * abs(drawn) % 10 if is_token else drawn, leaf.dtype)

    return jax.tree.map(array, args)


@functools.cache
def quick() -> dict[str, Any]:
    """What makes XLA compile sooner and run later, if this version knows it."""
    try:
        jax.jit(jnp.negative, compiler_options=QUICK)(1.0)
    except jax.errors.JaxRuntimeError:
        return {}
    return QUICK


def step(name: str, way: str) -> tuple[jax.Array, Any, str]:
    """Value and gradient, and the program that computes them."""
    loss, args, _ = loss_of(way, name, is_tiny=True)
    values = draw(args)
    traced = jax.jit(jax.value_and_grad(loss)).trace(*values)
    value, gradient = traced.lower().compile(compiler_options=quick())(*values)
    return value, jax.tree.map(as_numbers, gradient), str(traced.jaxpr)


plain = functools.cache(functools.partial(step, way="plain"))


def norm(tree: Any) -> float:
    return float(sum(numpy.sum(leaf**2) for leaf in jax.tree.leaves(tree)) ** 0.5)


def as_numbers(leaf: jax.Array) -> numpy.ndarray:
    """In double precision, and without a program for each shape."""
    return numpy.asarray(leaf, numpy.float64)


def test_programs_are_the_ones_that_are_measured() -> None:
    assert list(PROGRAMS) == list(TINY) == NAMES


@pytest.mark.parametrize("name", PROGRAMS)
def test_loss_is_a_scalar_function_of_float32_parameters(name: str) -> None:
    loss, (parameters, *rest) = PROGRAMS[name]()
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype("f4")}
    assert jax.eval_shape(loss, parameters, *rest).shape == ()


def test_a_unet_of_any_size_is_found_by_its_name() -> None:
    loss, (parameters, volume, target) = find_program("unet3d-48-fp32-batch2")()
    assert (volume.shape, volume.dtype) == ((2, 48, 48, 48, 4), jnp.float32)
    assert jax.eval_shape(loss, parameters, volume, target).shape == ()
    for name in ("unet3d-48", "unet3d-48-f16", "nothing"):
        with pytest.raises(ValueError, match=f"the workload is '{name}'; choose"):
            find_program(name)


def test_a_method_that_does_not_go_with_a_program_says_so() -> None:
    with pytest.raises(ValueError, match="the method is 'magic'; choose of plain"):
        loss_of("magic", "mlp", is_tiny=True)
    with pytest.raises(ValueError, match="mlp does not name its values"):
        loss_of("per-tensor list", "mlp", is_tiny=True)


@pytest.mark.parametrize("name", TINY)
def test_value_and_gradient_are_finite(name: str) -> None:
    value, gradient, program = plain(name)
    assert jnp.isfinite(value)
    assert 0 < norm(gradient) < float("inf")
    assert "remat" not in program


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_value_and_gradient_do_not_depend_on_what_is_saved(name: str, way: str) -> None:
    value, gradient, program = step(name, way)
    expected, expected_gradient, _ = plain(name)
    assert "remat" in program
    assert ("<host>" in program) == (not way.startswith("checkpoint"))
    assert jnp.allclose(value, expected, rtol=TOLERANCE)
    difference = jax.tree.map(numpy.subtract, gradient, expected_gradient)
    assert norm(difference) <= TOLERANCE * norm(expected_gradient)
