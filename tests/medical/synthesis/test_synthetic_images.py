import numpy as np
import pytest

from jaxswap.medical.synthesis.acquisition import AcquisitionRanges
from jaxswap.medical.synthesis.contrast import Tissue
from jaxswap.medical.synthesis.lattice import Lattice
from jaxswap.medical.synthesis.lesions import Lesions
from jaxswap.medical.synthesis.synthetic_images import take_images, tissue_shares
from jaxswap.medical.synthesis.tissue_maps import TissueMaps

LATTICE = Lattice.centered((32, 32, 32), 1.0)
FROM_CENTER = LATTICE.distance_mm(np.zeros(3))
BRAIN = FROM_CENTER < 14
CLEAN = AcquisitionRanges(bias=0, noise=(0, 0), ghosts=0, thick_slices=0)


def anatomy() -> TissueMaps:
    brain = BRAIN.astype(np.float32)
    return TissueMaps(0.5 * brain, 0.3 * brain, 0.2 * brain, brain, np.eye(4))


def lesions() -> Lesions:
    """Oedema within 10 mm, a rim between 5 and 7, necrosis within."""
    tissue = np.zeros(LATTICE.shape, np.uint8)
    tissue[FROM_CENTER < 10] = Tissue.OEDEMA
    tissue[FROM_CENTER < 7] = Tissue.ENHANCING
    tissue[FROM_CENTER < 5] = Tissue.NECROSIS
    oedema = np.clip(10.5 - FROM_CENTER, 0, 1).astype(np.float32)
    core = FROM_CENTER < 7
    return Lesions(tissue, oedema, 0 * tissue, tissue > 0, core)


def test_shares_add_up_to_the_brain() -> None:
    total = np.asarray(sum(tissue_shares(lesions(), anatomy()).values()))
    np.testing.assert_allclose(total, BRAIN, atol=1e-4)


def test_oedema_leaves_fluid_and_a_core_leaves_nothing() -> None:
    shares = tissue_shares(lesions(), anatomy())
    oedema = (FROM_CENTER > 8.5) & (FROM_CENTER < 9)
    np.testing.assert_allclose(shares[Tissue.FLUID][oedema], 0.2, atol=0.01)
    np.testing.assert_allclose(shares[Tissue.OEDEMA][oedema], 0.8, atol=0.01)
    np.testing.assert_allclose(shares[Tissue.NECROSIS][FROM_CENTER < 3], 1, atol=1e-3)


def test_tissues_of_a_tumour_blend_where_they_meet() -> None:
    shares = tissue_shares(lesions(), anatomy())
    edge = (FROM_CENTER > 4.5) & (FROM_CENTER < 5.5)
    assert (
        (shares[Tissue.NECROSIS][edge] > 0.1) & (shares[Tissue.NECROSIS][edge] < 0.9)
    ).any()


def take(of_person: int, of_scans: int) -> dict[str, np.ndarray]:
    images, _ = take_images(
        lesions(),
        anatomy(),
        LATTICE,
        AcquisitionRanges(),
        np.random.default_rng(of_person),
        np.random.default_rng(of_scans),
    )
    return images


def test_images_show_what_they_should() -> None:
    images, taken = take_images(
        lesions(),
        anatomy(),
        LATTICE,
        CLEAN,
        np.random.default_rng(0),
        np.random.default_rng(0),
    )
    rim = (FROM_CENTER > 5.7) & (FROM_CENTER < 6.3)
    oedema = (FROM_CENTER > 8) & (FROM_CENTER < 9)
    healthy = BRAIN & (FROM_CENTER > 11.5)

    def mean(name: str, where: np.ndarray) -> float:
        return float(images[name][where].mean())

    assert mean("t1c", rim) > 1.3 * mean("t1c", healthy)
    assert mean("t1n", rim) < mean("t1n", healthy)
    assert mean("t2f", oedema) > 1.3 * mean("t2f", healthy)
    assert mean("t2w", FROM_CENTER < 4) > 1.3 * mean("t2w", healthy)
    assert list(images) == list(taken) == ["t1n", "t1c", "t2w", "t2f"]


@pytest.mark.parametrize("change", [(1, 0), (0, 1)])
def test_images_depend_on_the_person_and_on_the_scans(change: tuple[int, int]) -> None:
    first, again, other = take(0, 0), take(0, 0), take(*change)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


def test_texture_is_stronger_in_lesions() -> None:
    images, _ = take_images(
        lesions(),
        anatomy(),
        LATTICE,
        CLEAN,
        np.random.default_rng(0),
        np.random.default_rng(0),
    )
    image = images["t2f"].astype(float)

    def variation(where: np.ndarray) -> float:
        return float(image[where].std() / image[where].mean())

    assert variation(FROM_CENTER < 4) > 2 * variation(BRAIN & (FROM_CENTER > 11.5)) > 0
