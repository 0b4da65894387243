"""The experiment: registered first, fair, resumable, reported with its statement."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import pytest

from jaxswap._cli.main import main
from jaxswap.medical.experiment import experiment as module
from jaxswap.medical.experiment.experiment import (
    HYPOTHESES,
    PATCHES,
    PLAIN,
    STATEMENT,
    SWAPPED,
    Experiment,
    Result,
    register,
)
from jaxswap.medical.experiment.experiment_report import report


def result(method: str, dice: list[float], arm: str = "glioma", **changed: Any) -> Any:
    cases = {f"case{number}": value for number, value in enumerate(dice)}
    made = Result(
        arm, method, 0, 1e-3, 10, 5_000_000, 36.0, cases, {"whole tumour": 0.5}, None
    )
    return dataclasses.replace(made, **changed)


def test_methods_differ_in_nothing_but_what_is_compared(tmp_path: pathlib.Path) -> None:
    experiment = Experiment(tmp_path, size=96, patch=64, settings={"loss": "dice"})
    configs = {
        method: experiment.config("glioma", method, 1e-3, 0)
        for method in (SWAPPED, PATCHES, PLAIN)
    }
    ours = configs[SWAPPED]
    plain = dataclasses.replace(configs[PLAIN], offload=True)
    assert plain == ours
    patches = dataclasses.replace(configs[PATCHES], patch=None, batch=1)
    assert dataclasses.replace(patches, shape=(96, 96, 96)) == ours
    assert configs[PATCHES].batch_size * 64**3 == pytest.approx(96**3, rel=0.15)


def test_left_stays_left_in_the_parcellation(tmp_path: pathlib.Path) -> None:
    config = Experiment(tmp_path).config("parcellation", SWAPPED, 1e-3, 0)
    assert config.augment is not None
    assert config.augment.mirror_axes == (1, 2)


def test_what_is_expected_is_written_first_and_kept(tmp_path: pathlib.Path) -> None:
    experiment = Experiment(tmp_path / "out")
    register(experiment)
    content = json.loads((tmp_path / "out" / "registration.json").read_text())
    assert content["statement"] == STATEMENT
    assert content["hypotheses"]["glioma"] == HYPOTHESES["glioma"]
    register(dataclasses.replace(experiment, workers=4))
    with pytest.raises(ValueError, match="registers another experiment"):
        register(dataclasses.replace(experiment, steps=7))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="must be an empty folder"):
        register(dataclasses.replace(experiment, out=tmp_path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arms": ("stroke",)}, "`arms` has 'stroke'"),
        ({"arms": ()}, "need one or more entries"),
        ({"steps": 0}, "`steps` is 0"),
        ({"seeds": 0}, "`seeds` is 0"),
        ({"test_cases": 0}, "`test_cases` is 0"),
        ({"training_cases": 4}, "`training_cases` is 4"),
        ({"settings": {"fold": "all"}}, "`fold` is all"),
        ({"patch": 96}, "not less than the volume's 96"),
    ],
)
def test_wrong_experiments_are_refused(
    tmp_path: pathlib.Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r"`|need") as caught:
        Experiment(tmp_path, **changed)
    assert message in str(caught.value)


def test_the_report_pairs_cases_and_says_what_is_synthetic() -> None:
    whole = [0.80, 0.82, 0.84, 0.86, 0.88, 0.90]
    results = [
        result(SWAPPED, whole),
        result(PATCHES, [dice - 0.05 for dice in whole], false_ml=3.0),
        result(PLAIN, whole),
    ]
    text = report(results)
    assert STATEMENT in text
    assert HYPOTHESES["glioma"] in text
    assert "| whole, swapped | 0.850 (" in text
    assert "minus patches: +5.0 points of Dice (95 % CI +5.0 to +5.0), 6 cases" in text
    assert "Wilcoxon signed-rank p = 0.031" in text
    assert "minus whole, plain: +0.0 points" in text
    assert "| 3.0 | 0.001 |" in text


@pytest.mark.slow
def test_a_tiny_experiment_runs_and_goes_on(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "cache"))
    words = ["compare", str(tmp_path / "out"), "--arms", "multifocal"]
    words += ["--size", "40", "--spacing-mm", "4.8", "--patch", "16", "--cases", "5"]
    words += ["--test-cases", "2", "--steps", "2", "--learning-rates", "1e-3"]
    words += ["--set", "precision=float32", "--set", "augment=false"]
    options = "{base_filters: 2, depth: 3, segmentation_levels: 1}"
    words += ["--set", f"network_options={options}"]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert main(words) == 0
        first = capsys.readouterr().out
        assert "whole, swapped minus whole, plain: +0.0 points" in first
        monkeypatch.setattr(module, "train", None)  # nothing is trained twice
        assert main(words) == 0
    assert (tmp_path / "out" / "report.md").exists()
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 3
