"""`jaxswap plan DATA`: what training on a data set would look like."""

import json
from pathlib import Path

import pytest
import tiny_datasets as tiny
from command_line import Capture, refused, run

_NETWORK = ["--set", "network=tiny_networks:OneConvolution"]
_NETWORK += ["--set", "precision=float32"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))
    names = [f"BraTS2021_{number:05d}" for number in range(5)]
    return str(tiny.brats(tmp_path / "data", names))


def test_shape_and_batch_are_chosen_and_explained(data: str, capsys: Capture) -> None:
    words = ["plan", data, "--target", "h100", "--quiet", *_NETWORK]
    assert run(*words, "--budget", "1GiB") == 0
    written = capsys.readouterr()
    assert "Whole volumes of 9 x 11 x 7 voxels, because a step on them fits 1GiB." in (
        " ".join(written.out.split())
    )
    assert "Batch 1, because a step sees at most 5 % of the training" in written.out
    assert "plan for h100" in written.out
    assert written.err == ""
    assert run(*words, "--json", "--compress", "int8") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["target"], found["compress"]) == ("h100", "int8")


def test_options_of_programs_are_not_for_data_nor_the_other_way(
    data: str, capsys: Capture
) -> None:
    words = ["plan", data, "--target", "h100"]
    told = refused(capsys, *words, "--policy", "KEEP")
    assert "--policy is for programs" in told
    assert "--size is for programs" in refused(capsys, *words, "--size", "64")
    told = refused(capsys, *words, "--budget", "smallest")
    assert "`--budget smallest` is for programs" in told
    told = refused(capsys, "plan", "unet3d", "--set", "batch=2")
    assert "--set is for data sets" in told
    assert "`stepz` is no setting" in refused(capsys, *words, "--set", "stepz=1")
