"""`jaxswap.jit` against `jax.jit`, and the options that it chooses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxswap
from jaxswap import _jit
from jaxswap._gpu.options import CHANNELS_LAST, OVERLAP

VOLUME = jnp.ones((1, 4, 4, 4, 2))
KERNEL = jnp.ones((3, 3, 3, 2, 2))


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    size = kernel.ndim - 2
    letters = "DHW"[3 - size :]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return jax.lax.conv_general_dilated(
        x, kernel, (1,) * size, "SAME", dimension_numbers=numbers
    )


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the default device say that it is a GPU."""

    class Device:
        platform = "gpu"

    monkeypatch.setattr(_jit, "default_device", Device)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options of each call of `jax.jit`."""
    found: list[Any] = []
    jit = jax.jit

    def noted(fn: Any, **arguments: Any) -> Any:
        found.append(arguments.get("compiler_options"))
        return jit(fn, **arguments)

    monkeypatch.setattr(jax, "jit", noted)
    return found


def test_value_and_gradient_are_those_of_jax_jit() -> None:
    def loss(kernel: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(convolve(x, kernel)))

    found = jaxswap.jit(jax.value_and_grad(loss))(KERNEL, VOLUME)
    expected = jax.jit(jax.value_and_grad(loss))(KERNEL, VOLUME)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_arguments_of_jax_jit_are_passed_on() -> None:
    @jaxswap.jit(static_argnames="times", donate_argnums=0)
    def scale(x: jax.Array, times: int) -> jax.Array:
        return x * len(range(times))

    x = jnp.ones(3)
    np.testing.assert_array_equal(scale(x, times=2), 2 * np.ones(3))
    assert x.is_deleted()
    np.testing.assert_array_equal(scale(jnp.ones(3), times=3), 3 * np.ones(3))


def test_it_traces_lowers_and_forgets_as_jax_jit() -> None:
    step = jaxswap.jit(jnp.sin)
    assert step.eval_shape(VOLUME).shape == VOLUME.shape
    assert len(step.trace(VOLUME).jaxpr.eqns) == 1
    np.testing.assert_array_equal(step.lower(VOLUME).compile()(VOLUME), step(VOLUME))
    step.clear_cache()
    np.testing.assert_allclose(step(VOLUME), jnp.sin(VOLUME), rtol=1e-6)
    assert isinstance(step, jax.stages.Wrapped)


def test_it_is_a_method_of_a_class() -> None:
    class Scale:
        factor = 3

        @jaxswap.jit(static_argnums=0)
        def __call__(self, x: jax.Array) -> jax.Array:
            return self.factor * x

    np.testing.assert_array_equal(Scale()(VOLUME), 3 * VOLUME)


def test_without_a_gpu_it_has_no_option(given: list[Any]) -> None:
    jaxswap.jit(convolve)(VOLUME, KERNEL)
    assert not any(given)


@pytest.mark.usefixtures("on_gpu")
def test_volumes_get_channels_last_and_planes_do_not(given: list[Any]) -> None:
    jaxswap.jit(convolve)(VOLUME, KERNEL)
    assert given[-1] == {OVERLAP: True, CHANNELS_LAST: True}
    jaxswap.jit(convolve)(VOLUME[0], KERNEL[0])
    assert given[-1] == {OVERLAP: True}


@pytest.mark.usefixtures("on_gpu")
def test_own_options_win_over_those_of_jaxswap(given: list[Any]) -> None:
    own = {OVERLAP: False, "xla_gpu_autotune_level": 0}
    jaxswap.jit(convolve, compiler_options=own)(VOLUME, KERNEL)
    assert given[-1] == {CHANNELS_LAST: True, **own}


@pytest.mark.usefixtures("on_gpu")
def test_choosing_options_costs_no_second_trace() -> None:
    traces = []

    def fn(x: jax.Array) -> jax.Array:
        traces.append(x)
        return 2 * x

    step = jaxswap.jit(fn)
    step(VOLUME)
    step(VOLUME)
    assert len(traces) == 1


@pytest.mark.usefixtures("on_gpu")
def test_options_inside_of_loops_and_gradients_are_found() -> None:
    def loss(kernel: jax.Array, x: jax.Array) -> jax.Array:
        @jaxswap.offload
        def block(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jnp.tanh(convolve(x, kernel)), None

        return jnp.sum(jax.lax.scan(block, x, length=2)[0])

    options = jaxswap.compiler_options(jax.grad(loss), KERNEL, VOLUME)
    assert options == {OVERLAP: True, CHANNELS_LAST: True}
    assert jaxswap.compiler_options() == {OVERLAP: True}


def test_an_option_that_xla_does_not_have_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unknown = "xla_option_of_another_version"
    monkeypatch.setattr("jaxswap._gpu.options.CHANNELS_LAST", unknown)
    monkeypatch.setattr("jaxswap._trace.options.CHANNELS_LAST", unknown)
    options = jaxswap.compiler_options(convolve, VOLUME, KERNEL)
    assert options == {OVERLAP: True}
