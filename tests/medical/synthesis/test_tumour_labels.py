import numpy as np
import pytest

from jaxswap.medical.data.masks import largest_piece
from jaxswap.medical.synthesis.contrast import Tissue
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.tissue_maps import TissueMaps
from jaxswap.medical.synthesis.tumour_labels import (
    Painted,
    find_core,
    label_tumour,
    paint_solid_lump,
    paint_tumour,
    visibility,
)

LATTICE = Lattice.centered((48, 48, 48), 1.5)
FROM_CENTER = LATTICE.distance_mm(np.zeros(3))
# About what a front of Fisher's equation looks like: dense up to 12 mm, seen up to 22.
CELLS = (1 / (1 + np.exp((FROM_CENTER - 16) / 3.5))).astype(np.float32)


def brain(fluid: float = 0.0, grey: float = 0.0) -> TissueMaps:
    ones = np.ones(LATTICE.shape, np.float32)
    return TissueMaps(
        (1 - fluid - grey) * ones, grey * ones, fluid * ones, ones, np.eye(4)
    )


def paint(rim_mm: float | None, anatomy: TissueMaps | None = None) -> Painted:
    random = np.random.default_rng(0)
    return paint_tumour(CELLS, anatomy or brain(), LATTICE, random, rim_mm)


def test_enhancing_tumour_is_oedema_around_a_rim_around_necrosis() -> None:
    tissue = paint(5.0).tissue
    mean = {
        kind: FROM_CENTER[tissue == kind].mean()
        for kind in (Tissue.NECROSIS, Tissue.ENHANCING, Tissue.OEDEMA)
    }
    assert mean[Tissue.NECROSIS] < mean[Tissue.ENHANCING] < mean[Tissue.OEDEMA]
    assert not (tissue == Tissue.SOLID).any()


def test_core_of_a_tumour_that_does_not_enhance_is_solid() -> None:
    tissue = paint(None).tissue
    assert set(np.unique(tissue)) == {0, Tissue.OEDEMA, Tissue.SOLID}
    core = paint(5.0).tissue
    is_core = (core == Tissue.NECROSIS) | (core == Tissue.ENHANCING)
    np.testing.assert_array_equal(tissue == Tissue.SOLID, is_core)


def test_thicker_rims_leave_less_necrosis() -> None:
    counts = [int((paint(rim).tissue == Tissue.NECROSIS).sum()) for rim in (2, 5, 9)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 2 * counts[1]


def test_oedema_fades_and_is_half_where_tissue_ends() -> None:
    painted = paint(5.0)
    inside = painted.tissue > 0
    assert painted.oedema[inside].min() >= 0.5
    assert painted.oedema[~inside].max() <= 0.5
    assert ((painted.oedema > 0.1) & (painted.oedema < 0.9)).any()


def test_tumour_is_in_one_piece() -> None:
    inside = paint(5.0).tissue > 0
    np.testing.assert_array_equal(inside, largest_piece(inside))


def test_nothing_is_painted_in_fluid_or_outside_the_brain() -> None:
    anatomy = brain()
    anatomy.fluid[:, 30:] = 1
    anatomy.brain[:, :, :14] = 0
    painted = paint(5.0, anatomy)
    for nothing in (painted.tissue[:, 30:], painted.tissue[:, :, :14]):
        assert not nothing.any()
    assert painted.tissue.any()
    assert not painted.oedema[:, 32:].any()


def test_grey_matter_is_spared() -> None:
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    assert visibility(one, none) < visibility(none, none)
    in_white, in_grey = paint(5.0), paint(5.0, brain(grey=1.0))
    assert (in_grey.tissue > 0).sum() < 0.8 * (in_white.tissue > 0).sum()


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_core_is_between_an_eighth_and_a_third_of_the_tumour(scale: float) -> None:
    # From a tumour that is dense nowhere to one that is dense nearly everywhere.
    odds = scale * CELLS / (1 - CELLS)
    cells = np.where(FROM_CENTER < 24, odds / (1 + odds), 0).astype(np.float32)
    cells = np.minimum(cells, 0.7 if scale < 1 else 1)
    whole = cells > 0.16
    share = find_core(cells, whole, 1.5).sum() / whole.sum()
    assert 0.08 < share < 0.4


def test_no_tumour_has_no_core() -> None:
    assert not find_core(0 * CELLS, CELLS > 2, 1.5).any()
    painted = paint_tumour(
        0 * CELLS, brain(), LATTICE, np.random.default_rng(0), rim_mm=4.0
    )
    assert not painted.tissue.any()


def test_solid_lump_lies_in_oedema_far_from_the_core() -> None:
    tissue = paint(5.0).tissue
    before = tissue.copy()
    paint_solid_lump(tissue, LATTICE, np.random.default_rng(0), 8.0)
    lump = tissue == Tissue.SOLID
    assert lump.sum() * 1.5**3 > 100
    assert (before[lump] == Tissue.OEDEMA).all()
    assert (tissue[~lump] == before[~lump]).all()
    core = np.argwhere((before != 0) & (before != Tissue.OEDEMA))
    for voxel in np.argwhere(lump)[::50]:
        assert 1.5 * np.linalg.norm(core - voxel, axis=1).min() >= 6


def test_solid_tissue_is_core_exactly_if_nothing_enhances() -> None:
    tissue = paint(None).tissue
    paint_solid_lump(tissue, LATTICE, np.random.default_rng(0), 8.0)
    assert (label_tumour(tissue)[tissue == Tissue.SOLID] == 1).all()
    one_voxel = tissue.copy()
    one_voxel[0, 0, 0] = Tissue.ENHANCING
    assert (label_tumour(one_voxel)[tissue == Tissue.SOLID] == 2).all()
    assert (label_tumour(one_voxel)[tissue == Tissue.OEDEMA] == 2).all()


def test_labels_are_those_of_brats_2023() -> None:
    kinds = [0, Tissue.NECROSIS, Tissue.OEDEMA, Tissue.ENHANCING]
    found = label_tumour(np.array(kinds, np.uint8))
    assert found.tolist() == [0, 1, 2, 3]
    assert found.dtype == np.uint8
