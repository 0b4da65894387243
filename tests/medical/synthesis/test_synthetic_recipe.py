from dataclasses import replace

import pytest

from jaxswap._cli.synth import _ARMS
from jaxswap.medical.synthesis.synthetic_recipe import ARMS, Recipe, make_recipe


def test_control_arm_decides_nothing_across_the_head() -> None:
    recipe = make_recipe("glioma")
    assert recipe.satellites.count == (0, 0)
    assert recipe.foci.far_mm == 0
    assert recipe.tumour.absent == 0
    assert recipe.tumour.lump_mm is None


def test_multifocal_arm_has_one_to_four_foci_half_of_them_60_mm_away() -> None:
    recipe = make_recipe("multifocal")
    assert recipe.foci.count == (1, 4)
    assert recipe.foci.far_mm == 60
    enhancing = (1 - recipe.tumour.absent) * (1 - recipe.tumour.non_enhancing)
    assert enhancing == pytest.approx(0.5)  # so foci are tumour as often as not


def test_parcellation_turns_heads_by_up_to_30_degrees() -> None:
    recipe = make_recipe("parcellation")
    assert recipe.head.rotation_degrees == 30
    assert recipe.head.mirror == 0.5


def test_satellites_of_the_control_arm_are_asked_for() -> None:
    assert make_recipe("glioma", satellites=3).satellites.count == (0, 3)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((192,) * 3, 1.0), ((96,) * 3, 2.0), ((48,) * 3, 4.0), ((339, 411, 339), 0.5)],
)
def test_common_grids_hold_a_head(shape: tuple[int, int, int], spacing: float) -> None:
    assert make_recipe("glioma", shape, spacing).shape == shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tumor",), "`arm` is 'tumor'; choose one of glioma, multifocal"),
        (("glioma", (192,) * 3, 0.0), "`spacing_mm` is 0; it needs to be between"),
        (("glioma", (192,) * 3, 50.0), "`spacing_mm` is 50; it needs to be between"),
        (("glioma", (192,) * 3, float("nan")), "`spacing_mm` is nan"),
        (("glioma", (128,) * 3, 1.0), "128x128x128 voxels of 1 mm does not hold a"),
        (("glioma", (192, 160, 192), 1.0), "head, which needs 151x189x162"),
        (("glioma", (0, 192, 192), 1.0), "it needs three sides"),
        (("glioma", (192,) * 3, 1.0, 4), "`satellites` is 4; it needs to be 0 to 3"),
        (("glioma", (192,) * 3, 1.0, -1), "`satellites` is -1"),
        (("multifocal", (192,) * 3, 1.0, 1), "for the arm glioma alone"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_recipe(*arguments)


def test_recipes_can_be_changed_and_are_checked_again() -> None:
    recipe = make_recipe()
    assert isinstance(replace(recipe, caps=0.0), Recipe)
    with pytest.raises(ValueError, match="does not hold a head"):
        replace(recipe, spacing_mm=0.5)


def test_command_offers_the_arms_there_are() -> None:
    assert _ARMS == ARMS
