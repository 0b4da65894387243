"""What `jaxswap train` refuses: it is named, and nothing is written."""

import pathlib

import pytest
import tiny_datasets
from training_command import NAMES, TINY, UNET, config_file

from jaxswap._cli.main import main

pytestmark = pytest.mark.usefixtures("own_folders", "lenient_promotion")


BAD_TRAINING: list[tuple[list[str], str]] = [
    (["--set", "steps"], "`--set steps` is not"),
    (["--set", "stepz=1"], "did you mean `steps`"),
    (["--set", "steps=0"], "`steps` is 0"),
    (["--set", "loss=mse"], "`loss` is 'mse'"),
    (["--config", "missing.yaml"], "missing.yaml: no such file"),
    (["--network", "vnet"], "`network` is 'vnet'"),
    (["--network", "no.such:Net"], "No module named"),
    (["--set", "network_options={width: 3}"], "`network_options` has 'width'"),
    (["--set", "network_options={depth: 1}"], "`depth` is 1"),
    (["--edition", "brats1999"], "brats1999"),
    (["--set", "layout=dicom"], "dicom"),
    (["--set", "folds=99"], "too few for 99 folds"),
    (["--set", "fold=7"], "`fold` is 7"),
    (["--set", "exclude=[BraTS2021_0000]"], "did you mean BraTS2021_0000"),
    (["--init-from", "nowhere"], "nowhere, which holds no training run"),
    (["--patch", "9"], "`patch` is 9; the network needs a multiple of 4"),
    (["--set", "shape=[6, 8, 8]"], "multiple"),
    (["--set", "shape=[4, 4, 4]"], "4"),
    (["--set", "spacing_mm=[1, 2]"], "`spacing_mm`"),
    (["--set", "deep_supervision=true"], "sums the scores of its levels"),
    (["--device-memory", "lots", "--target", "h100"], "lots"),
    ([*TINY, "--device-memory", "1KiB", "--target", "h100"], "smallest"),
    (["--device-memory", "1GiB", "--target", "gtx"], "gtx"),
    (["--set", "class_weights={tumor: 2}"], "did you mean 'tumour core'"),
    (
        ["--patch", "8", "--set", "foreground_weights={edema: 2}"],
        "`foreground_weights` has 'edema'",
    ),
    (["--precision", "float8"], "`precision` is 'float8'"),
    (["--set", "augment={zoom: 1}"], "`augment.zoom` is no setting"),
    (["--resume"], "holds no run to resume"),
    (["--mesh", "width=2"], "`mesh` has the axis 'width'"),
    (["--mesh", "two"], "`mesh` is 'two'; give axes and sizes"),
    (["--mesh", "data=2"], "`batch` is 1, which data=2 of `mesh` does not divide"),
    (["--mesh", "depth=2"], "12 voxels along x, but depth=2 of `mesh`"),
    (["--mesh", "height=2", "--patch", "12"], "--set patch='16' fits"),
    (["--mesh", "depth=64"], "`mesh` is depth=64: 64 devices, but there are"),
    (["--processes", "2"], "belong together"),
    (
        ["--coordinator", "here", "--processes", "2", "--process", "0"],
        "`--coordinator` is 'here'; it needs HOST:PORT",
    ),
    (
        ["--coordinator", "here:1", "--processes", "2", "--process", "2"],
        "`--process` is 2, not in 0..1",
    ),
    (
        ["--coordinator", "here:1", "--processes", "0", "--process", "0"],
        "`--processes` is 0",
    ),
    (["--heartbeat-seconds", "0"], "`--heartbeat-seconds` is 0"),
]


@pytest.mark.parametrize(("words", "message"), BAD_TRAINING)
def test_bad_training_input_is_named_and_nothing_written(
    data: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    run = tmp_path / "run"
    given = ["--config", config_file(tmp_path, UNET)] if "--config" not in words else []
    assert main(["train", str(data), "--out", str(run), *given, *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("jaxswap: ")
    assert message in error
    assert not run.exists()


def test_data_that_cannot_be_trained_on(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    empty = tmp_path / "empty"
    empty.mkdir()
    unlabeled = tiny_datasets.brats(tmp_path / "unlabeled", NAMES, values=None)
    strange = tiny_datasets.brats(tmp_path / "strange", NAMES, values=(2, 1, 9))
    for folder in (tmp_path / "missing", empty, unlabeled, strange):
        words = ["train", str(folder), "--out", str(run)]
        assert main([*words, "--config", config_file(tmp_path, UNET)]) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("jaxswap: ")
        assert not run.exists()
