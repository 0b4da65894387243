import numpy as np
import pytest

from jaxswap.medical.synthesis.contrast import (
    SEQUENCES,
    TISSUES,
    Relaxation,
    Sequence,
    Tissue,
    draw_tissues,
    render,
    signal,
)


def brightness(tissue: Tissue, sequence: str) -> float:
    return signal(TISSUES[tissue], SEQUENCES[sequence])


def test_spin_echo_of_water_is_its_density() -> None:
    water = Relaxation(t1_ms=1000, t2_ms=1000, proton_density=0.7)
    assert signal(water, Sequence(1e9, 0)) == pytest.approx(0.7)
    assert signal(water, Sequence(1000, 0)) == pytest.approx(0.7 * (1 - np.exp(-1)))
    assert signal(water, Sequence(1e9, 1000)) == pytest.approx(0.7 * np.exp(-1))


def test_inversion_nulls_a_tissue_at_ln_2_of_its_t1() -> None:
    tissue = Relaxation(t1_ms=1000, t2_ms=100, proton_density=1)
    assert signal(tissue, Sequence(1e9, 0, 1000 * np.log(2))) == pytest.approx(0)
    assert signal(tissue, Sequence(1e9, 0, 0)) == pytest.approx(1)
    assert signal(tissue, Sequence(1e9, 0, 1e9)) == pytest.approx(1)


def test_contrast_agent_counts_only_where_it_was_given() -> None:
    tissue = Relaxation(1000, 100, 1, agent_shortening_ms=500)
    assert signal(tissue, Sequence(600, 0)) == pytest.approx(1 - np.exp(-0.6))
    assert signal(tissue, Sequence(600, 0, has_agent=True)) == pytest.approx(
        1 - np.exp(-1.2)
    )


def test_t1_shows_white_matter_brightest_and_fluid_darkest() -> None:
    order = [Tissue.WHITE, Tissue.GREY, Tissue.OEDEMA, Tissue.NECROSIS, Tissue.FLUID]
    found = [brightness(tissue, "t1n") for tissue in order]
    assert found == sorted(found, reverse=True)


def test_agent_makes_enhancing_tumour_the_brightest_tissue_and_only_it() -> None:
    enhanced = brightness(Tissue.ENHANCING, "t1c")
    assert enhanced > 1.2 * max(
        brightness(tissue, "t1c") for tissue in Tissue if tissue != Tissue.ENHANCING
    )
    assert brightness(Tissue.ENHANCING, "t1n") < brightness(Tissue.GREY, "t1n")


def test_flair_shows_oedema_and_hides_fluid() -> None:
    lesion = brightness(Tissue.OEDEMA, "t2f")
    assert lesion > 1.5 * brightness(Tissue.GREY, "t2f")
    assert brightness(Tissue.FLUID, "t2f") < 0.25 * brightness(Tissue.GREY, "t2f")
    assert brightness(Tissue.FLUID, "t2w") > brightness(Tissue.OEDEMA, "t2w")


def test_solid_tumour_can_be_told_from_oedema() -> None:
    solid, oedema = (
        np.array([brightness(tissue, name) for name in SEQUENCES])
        for tissue in (Tissue.SOLID, Tissue.OEDEMA)
    )
    assert (np.abs(solid / oedema - 1) > 0.04).all()


def test_people_differ_by_about_five_percent() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_tissues(random)[Tissue.GREY].t1_ms for _ in range(300)]
    ratio = np.array(drawn) / TISSUES[Tissue.GREY].t1_ms
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert ratio.std() == pytest.approx(0.05, abs=0.01)
    assert np.abs(ratio - 1).max() <= 0.15 + 1e-9


def test_mixed_voxels_have_mixed_signals() -> None:
    half = np.full((2, 2, 2), 0.5, np.float32)
    image = render({Tissue.GREY: half, Tissue.WHITE: half}, TISSUES, SEQUENCES["t1n"])
    expected = (brightness(Tissue.GREY, "t1n") + brightness(Tissue.WHITE, "t1n")) / 2
    np.testing.assert_allclose(image, expected, rtol=1e-6)
