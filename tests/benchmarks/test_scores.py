"""What other tools score, measured once, beside what `jaxswap evaluate` scores."""

import pytest

from benchmarks import harness, scores

ROWS = [row["scores"] for row in harness.rows_of(scores.OUTPUT)]


def _apart(metric: str, tool: str) -> list[float]:
    pairs = [(row[f"{metric} jaxswap"], row[f"{metric} {tool}"]) for row in ROWS]
    return [abs(ours - theirs) for ours, theirs in pairs]


def test_each_spacing_and_quality_was_measured() -> None:
    assert len(ROWS) == scores.PAIRS * len(scores.SPACINGS) * len(scores.ROUGHNESS)


@pytest.mark.parametrize("tool", ["BraTS 2023", "MONAI", "nnU-Net"])
def test_all_tools_have_one_dice(tool: str) -> None:
    assert max(_apart("Dice", tool)) < 1e-6


def test_lesions_are_those_of_the_challenge() -> None:
    assert max(_apart("lesion Dice", "BraTS 2023")) < 1e-9
    assert max(_apart("lesion HD95", "BraTS 2023")) < 0.1


@pytest.mark.parametrize("tool", ["BraTS 2023", "surface-distance"])
def test_surfaces_are_those_of_the_challenge(tool: str) -> None:
    assert max(_apart("HD95", tool)) < 0.3
    if tool == "surface-distance":
        assert max(_apart("surface Dice", tool)) < 0.002


def test_what_was_measured_is_shown_as_a_table() -> None:
    table = scores.table()
    assert "| HD95 MedPy | 3.581 | 18.250 | 5.385 | 25.615 |" in table
