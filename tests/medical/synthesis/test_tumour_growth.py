import numpy as np
import pytest

from jaxswap.medical.data.masks import sides_mm
from jaxswap.medical.synthesis.tumour_growth import VISIBLE, diffusivity, grow

SHAPE = (41, 41, 41)
SEED = (20, 20, 20)
FLAT = np.zeros(SHAPE, np.float32)
EVERYWHERE = np.ones(SHAPE, np.float32)


def white(length_mm: float = 4.0) -> np.ndarray:
    return diffusivity(EVERYWHERE, FLAT, length_mm, FLAT)


def test_diffusivity_is_five_times_smaller_in_grey_matter_and_zero_in_fluid() -> None:
    ones = np.ones((1, 1, 1), np.float32)
    zeros = 0 * ones
    in_white = diffusivity(ones, zeros, 3.0, zeros)
    assert in_white.item() == pytest.approx(9)
    assert diffusivity(zeros, ones, 3.0, zeros).item() == pytest.approx(9 / 5)
    assert diffusivity(zeros, zeros, 3.0, zeros).item() == 0


@pytest.mark.parametrize("extent", [20.0, 40.0, 60.0])
def test_growth_stops_at_the_extent(extent: float) -> None:
    growth = grow(white(), SEED, 2.0, extent, EVERYWHERE)
    assert extent <= growth.extent_mm <= extent + 4.1
    assert growth.extent_mm == max(sides_mm(growth.concentration > VISIBLE, 2.0))


def test_concentration_stays_between_none_and_all() -> None:
    cells = grow(white(2.5), SEED, 2.0, 60.0, EVERYWHERE).concentration
    assert cells.min() >= 0
    assert cells.max() <= 1.001
    assert cells[SEED] > 0.95


def test_growth_is_the_same_in_all_directions_of_even_tissue() -> None:
    cells = grow(white(), SEED, 2.0, 50.0, EVERYWHERE).concentration
    for turned in (cells[::-1], cells.transpose(1, 0, 2), cells.transpose(2, 1, 0)):
        np.testing.assert_allclose(turned, cells, atol=1e-4)


def test_front_moves_at_the_speed_of_fisher() -> None:
    # Fisher's front moves by 2 sqrt(D rho), and somewhat slower at first.
    growths = [grow(white(), SEED, 2.0, extent, EVERYWHERE) for extent in (50.0, 70.0)]
    radius = [growth.extent_mm / 2 for growth in growths]
    speed = (radius[1] - radius[0]) / (growths[1].time - growths[0].time)
    assert speed == pytest.approx(2 * 4.0, rel=0.25)


def test_diffuse_tumours_have_wider_fronts() -> None:
    def core_share(length: float) -> float:
        cells = grow(white(length), SEED, 2.0, 60.0, EVERYWHERE).concentration
        return float((cells > 0.8).sum() / (cells > VISIBLE).sum())

    assert core_share(6.0) < 0.7 * core_share(2.5)


def test_no_cells_enter_fluid() -> None:
    share = EVERYWHERE.copy()
    share[26:29] = 0
    slow = diffusivity(share, FLAT, 4.0, FLAT)
    cells = grow(slow, SEED, 2.0, 75.0, EVERYWHERE).concentration
    assert cells[26:29].max() == 0
    assert cells[29:].max() == 0  # nor what lies behind it
    assert cells[:12].max() > VISIBLE


def test_tumour_follows_white_matter() -> None:
    share = 0 * EVERYWHERE
    share[:, 17:24, 17:24] = 1  # a tract along the first axis, in grey matter
    slow = diffusivity(share, 1 - share, 4.0, FLAT)
    cells = grow(slow, SEED, 2.0, 60.0, EVERYWHERE).concentration
    along, across, _ = sides_mm(cells > VISIBLE, 2.0)
    assert along > 1.3 * across


def test_growth_ends_where_nothing_is_left_to_reach() -> None:
    share = 0 * EVERYWHERE
    share[15:26, 15:26, 15:26] = 1
    growth = grow(diffusivity(share, FLAT, 4.0, FLAT), SEED, 2.0, 60.0, EVERYWHERE)
    assert growth.extent_mm == 22.0
    assert growth.concentration[share == 0].max() == 0


def test_seed_in_fluid_is_refused() -> None:
    share = EVERYWHERE.copy()
    share[SEED] = 0
    slow = diffusivity(share, FLAT, 4.0, FLAT)
    with pytest.raises(ValueError, match=r"`seed` \(20, 20, 20\) lies in fluid"):
        grow(slow, SEED, 2.0, 60.0, EVERYWHERE)
