import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax import Array

from jaxswap.medical.preparing.intensities import (
    add_noise,
    apply_gamma,
    blur,
    change_contrast,
    coarsen,
)


@pytest.fixture
def volume() -> Array:
    return jnp.asarray(np.random.default_rng(2).normal(size=(9, 10, 11)), jnp.float32)


@pytest.fixture
def inside(volume: Array) -> Array:
    return jnp.zeros(volume.shape, bool).at[2:7, 3:9, 1:8].set(True)


def test_noise_has_the_deviation_asked_for() -> None:
    noise = np.asarray(
        add_noise(jnp.zeros((30, 30, 30)), jax.random.key(0), jnp.array(0.3))
    )
    assert abs(noise.std() - 0.3) < 0.01
    assert abs(noise.mean()) < 0.01


def test_blur_is_that_of_scipy(volume: Array) -> None:
    deviations = [0.5, 0.7, 1.0]
    blurred = blur(volume, jnp.array(deviations), 4)
    expected = scipy.ndimage.gaussian_filter(
        np.asarray(volume), deviations, mode="nearest", radius=4
    )
    np.testing.assert_allclose(blurred, expected, atol=1e-6)


def test_contrast_keeps_mean_and_range_of_the_brain(
    volume: Array, inside: Array
) -> None:
    brain = np.asarray(volume)[np.asarray(inside)]
    more = np.asarray(change_contrast(volume, inside, jnp.array(1.25)))[
        np.asarray(inside)
    ]
    less = np.asarray(change_contrast(volume, inside, jnp.array(0.75)))[
        np.asarray(inside)
    ]
    assert more.min() == brain.min()
    assert more.max() == brain.max()
    np.testing.assert_allclose(less.mean(), brain.mean(), atol=1e-6)
    np.testing.assert_allclose(less.std(), 0.75 * brain.std(), rtol=1e-5)
    assert more.std() > brain.std()


@pytest.mark.parametrize("scale", [0.5, 0.63, 0.8, 1.0])
def test_coarse_grid_is_nearest_down_and_linear_up(volume: Array, scale: float) -> None:
    expected = np.asarray(volume)
    for axis, side in enumerate(volume.shape):
        coarse = max(round(side * scale), 1)
        picked = np.floor((np.arange(coarse) + 0.5) * side / coarse).astype(int)
        small = np.take(expected, picked, axis)
        place = (np.arange(side) + 0.5) * coarse / side - 0.5
        expected = np.apply_along_axis(
            lambda line, at=place, n=coarse: np.interp(at, np.arange(n), line),
            axis,
            small,
        )
    np.testing.assert_allclose(coarsen(volume, jnp.array(scale)), expected, atol=1e-5)


def test_full_scale_changes_nothing(volume: Array) -> None:
    assert np.array_equal(coarsen(volume, jnp.array(1.0)), volume)


@pytest.mark.parametrize("is_inverted", [False, True])
@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.5])
def test_gamma_keeps_mean_and_deviation_and_order(
    volume: Array, inside: Array, exponent: float, is_inverted: bool
) -> None:
    changed = apply_gamma(volume, inside, jnp.array(exponent), is_inverted=is_inverted)
    before = np.asarray(volume)[np.asarray(inside)]
    after = np.asarray(changed)[np.asarray(inside)]
    np.testing.assert_allclose(after.mean(), before.mean(), atol=1e-5)
    np.testing.assert_allclose(after.std(), before.std(), rtol=1e-5)
    assert (np.diff(after[np.argsort(before)]) >= 0).all()
    if exponent == 1:
        np.testing.assert_allclose(after, before, atol=1e-5)


def test_gamma_above_one_spreads_the_bright_and_inverted_the_dark(
    volume: Array, inside: Array
) -> None:
    brain = np.asarray(inside)

    def skew(x: Array) -> float:
        values = np.asarray(x)[brain]
        return float((((values - values.mean()) / values.std()) ** 3).mean())

    plain = skew(apply_gamma(volume, inside, jnp.array(1.5)))
    inverted = skew(apply_gamma(volume, inside, jnp.array(1.5), is_inverted=True))
    assert inverted < skew(volume) < plain
