from dataclasses import replace

import numpy as np
import pytest

from jaxswap.medical.synthesis.acquisition import (
    Acquisition,
    AcquisitionRanges,
    acquire,
    add_ghost,
    add_rician_noise,
    draw_acquisition,
    thicken_slices,
)
from jaxswap.medical.synthesis.lattice import Lattice

LATTICE = Lattice.centered((24, 24, 24), 1.0)
CLEAN = Acquisition(0.0, 0.0, 0.0, 2, 0.0, 2)


def ball() -> np.ndarray:
    return LATTICE.distance_mm(np.zeros(3)) < 10


def take(acquisition: Acquisition, image: np.ndarray, seed: int = 0) -> np.ndarray:
    return acquire(image, ball(), LATTICE, acquisition, np.random.default_rng(seed))


def test_background_is_exactly_zero_and_the_brain_is_not() -> None:
    image = np.ones(LATTICE.shape, np.float32)
    noisy = replace(CLEAN, noise=0.3, bias=0.3, ghost=0.1, slice_mm=4.0)
    found = take(noisy, image)
    assert found.dtype == np.int16
    assert (found[~ball()] == 0).all()
    assert (found[ball()] >= 1).all()


def test_bright_tissue_becomes_1000() -> None:
    image = np.random.default_rng(0).uniform(0, 37, LATTICE.shape).astype(np.float32)
    found = take(CLEAN, image)[ball()]
    assert np.percentile(found, 99.5) == pytest.approx(1000, abs=1)


def test_without_faults_only_the_scale_changes() -> None:
    image = np.random.default_rng(0).uniform(0.1, 1, LATTICE.shape).astype(np.float32)
    found = take(CLEAN, image)[ball()]
    ratio = found / image[ball()]
    assert ratio.std() / ratio.mean() < 0.01


def test_bias_is_smooth() -> None:
    image = np.ones(LATTICE.shape, np.float32)
    found = take(replace(CLEAN, bias=0.3), image).astype(float)
    inside = ball()[1:] & ball()[:-1]
    assert found[ball()].std() > 30
    assert np.abs(np.diff(found, axis=0))[inside].max() < 60


def test_noise_is_rician() -> None:
    random = np.random.default_rng(0)
    dark = add_rician_noise(np.zeros(100_000, np.float32), 2.0, random)
    assert dark.min() >= 0
    assert dark.mean() == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.02)
    bright = add_rician_noise(np.full(100_000, 100, np.float32), 2.0, random)
    assert bright.mean() == pytest.approx(100, rel=0.01)
    assert bright.std() == pytest.approx(2, rel=0.02)


def test_ghost_is_what_modulated_lines_of_k_space_give() -> None:
    image = np.random.default_rng(0).uniform(0, 1, (4, 12, 3)).astype(np.float32)
    lines = np.fft.fft(image, axis=1)
    strength = 1 + 2 * 0.1 * np.cos(2 * np.pi * np.arange(12) / 3)
    expected = np.fft.ifft(lines * strength[:, None], axis=1).real
    np.testing.assert_allclose(add_ghost(image, 0.1, 3), expected, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_blur_across_them_alone(axis: int) -> None:
    everywhere = np.ones(LATTICE.shape, bool)
    across = (np.arange(24) % 2).astype(np.float32)
    image = np.broadcast_to(across.reshape(-1, *(1,) * (2 - axis)), LATTICE.shape)
    assert thicken_slices(image, everywhere, 4.0, axis).std() < 0.2 * image.std()
    along = thicken_slices(image, everywhere, 4.0, (axis + 1) % 3)
    np.testing.assert_allclose(along, image, atol=1e-6)


def test_thick_slices_do_not_darken_the_edge_of_the_brain() -> None:
    found = thicken_slices(np.ones(LATTICE.shape, np.float32), ball(), 5.0, 2)
    np.testing.assert_allclose(found[ball()], 1, atol=1e-5)
    assert (found[~ball()] == 0).all()


def test_faults_are_drawn_within_their_ranges_and_as_often_as_said() -> None:
    random = np.random.default_rng(0)
    ranges = AcquisitionRanges(ghosts=0.25, thick_slices=0.5)
    drawn = [draw_acquisition(random, ranges) for _ in range(400)]
    assert np.mean([a.ghost > 0 for a in drawn]) == pytest.approx(0.25, abs=0.07)
    assert np.mean([a.slice_mm > 0 for a in drawn]) == pytest.approx(0.5, abs=0.08)
    assert all(0.01 <= a.noise <= 0.05 and 0 <= a.bias <= 0.3 for a in drawn)
    assert all(a.slice_mm == 0 or 3 <= a.slice_mm <= 5 for a in drawn)
