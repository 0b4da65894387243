"""The programs of the benchmarks run, and each way to save memory leaves them alone."""

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy
import pytest

from benchmarks import baselines
from benchmarks.programs import PROGRAMS, TINY

pytestmark = pytest.mark.thorough

NAMES = "mlp unet3d-128-bf16 unet3d-192-bf16 unet3d-128-fp32 unet3d-192-fp32".split()
NAMES += "transformer-unrolled transformer-scanned resnet50-512".split()
DISTINCT = ["mlp", "unet3d-128-fp32", "transformer-unrolled", "transformer-scanned"]
DISTINCT += ["resnet50-512"]
WAYS = [(name, way) for name in DISTINCT for way in baselines.variants(name)]
WAYS = [(name, way) for name, way in WAYS if way != "plain"]
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
    loss, args = baselines.variants(name)[way](TINY[name])
    values = draw(args)
    traced = jax.jit(jax.value_and_grad(loss)).trace(*values)
    value, gradient = traced.lower().compile(compiler_options=quick())(*values)
    return value, gradient, str(traced.jaxpr)


plain = functools.cache(functools.partial(step, way="plain"))


def norm(tree: Any) -> float:
    return float(
        sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)) ** 0.5
    )


def test_programs_are_the_ones_that_are_measured() -> None:
    assert list(PROGRAMS) == list(TINY) == NAMES


@pytest.mark.parametrize("name", PROGRAMS)
def test_loss_is_a_scalar_function_of_float32_parameters(name: str) -> None:
    loss, (parameters, *rest) = PROGRAMS[name]()
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype("f4")}
    assert jax.eval_shape(loss, parameters, *rest).shape == ()


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
    assert ("<host>" in program) == way.endswith("offloaded")
    assert jnp.allclose(value, expected, rtol=TOLERANCE)
    difference = jax.tree.map(jnp.subtract, gradient, expected_gradient)
    assert norm(difference) <= TOLERANCE * norm(expected_gradient)


def test_what_was_measured_is_not_measured_again(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured: list[tuple[str, ...]] = []

    def measure_alone(*key: str) -> dict[str, Any]:
        measured.append(key)
        if key[1] != "plain":
            return {"error": "too large"}
        numbers = dict.fromkeys((*baselines.FIELDS, "copied_bytes"), 2 << 20)
        numbers |= {"copies": 3, "exposed_bytes": 1 << 20, "compile_seconds": 4}
        return numbers

    monkeypatch.setattr(baselines, "measure_alone", measure_alone)
    where = ["--output", str(tmp_path / "rows.jsonl"), "--program", "mlp"]
    for targets in (["h100"], ["h100", "a100-40"], ["a100-40"]):
        options = [word for target in targets for word in ("--target", target)]
        baselines.main([*where, *options])
    ways = baselines.variants("mlp")
    assert measured == [("mlp", w, t) for t in ("h100", "a100-40") for w in ways]
    capsys.readouterr()
    baselines.main([*where, "--table"])
    head, line, plain_row, refused, *rest = capsys.readouterr().out.splitlines()
    assert plain_row.endswith("| 2 | 2 | 2 | 2 | 3 | 50% of bytes | 4 |")
    assert "too large" in refused
    assert {row.count("|") for row in (head, line, plain_row, refused, *rest)} == {11}


def test_plain_programs_are_measured_first() -> None:
    rows = baselines.rows(["h100", "a100-40"])
    plain_rows = [(name, "plain", t) for t in ("h100", "a100-40") for name in NAMES]
    assert rows[: len(plain_rows)] == plain_rows
    assert len(rows) == len(set(rows)) == 2 * 5 * len(NAMES)


def test_a_failure_of_ours_is_not_recorded() -> None:
    with pytest.raises(RuntimeError, match="unknown"):
        baselines.measure_alone("mlp", "plain", "unknown")


def test_a_compiler_that_takes_too_long_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(baselines, "TIMEOUT", 0.01)
    seen = baselines.measure_alone("mlp", "plain", "h100")
    assert seen == {"error": "took longer than 0.01 s"}


@pytest.mark.slow
def test_a_row_is_measured_in_a_process_of_its_own() -> None:
    seen = baselines.measure_alone("mlp", "whole, products offloaded", "h100")
    assert seen["host_bytes"] == 24 << 26
    assert seen["copied_bytes"] == 2 * seen["host_bytes"]
