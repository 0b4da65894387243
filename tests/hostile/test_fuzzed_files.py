"""Whatever is changed in a file that a command reads, the command ends as it should."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_datasets
import yaml
from hostile.corpus import nifti
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutated_json import mutated

from jaxswap._cli.main import main
from jaxswap.medical.runs.run_config import make_config

pytestmark = pytest.mark.filterwarnings("default")

CODES = {0, 1, 2, 130}
SETTINGS = yaml.safe_load(
    make_config({"data": "cases", "labels": {"a": 1}, "spacing_mm": 1}).to_yaml()
)
LIST = {
    "name": "list",
    "labels": {"background": 0, "edema": 1, "core": [2, 3]} | {"core": 2},
    "channel_names": {"0": "T1"},
    "training": [{"image": "a.nii", "label": "a-seg.nii", "fold": 0}],
    "validation": [{"image": ["a.nii"], "label": "a-seg.nii"}],
    "test": ["a.nii"],
}
DESCRIPTION = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": tiny_datasets.NNUNET_REGIONS,
    "regions_class_order": [1, 2, 3],
    "numTraining": 1,
    "file_ending": ".nii",
}
HEADER = nifti()
COUNTS = [60, pytest.param(1000, marks=pytest.mark.slow)]
"""Examples: few, and about a minute of all together."""


def fuzz(
    count: int, changes: st.SearchStrategy[Any], try_one: Callable[..., None]
) -> None:
    """Try changes, the same ones each time."""
    decorated = settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )(given(changes)(try_one))
    decorated()


@pytest.fixture(autouse=True)
def _own(own_folders: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    del own_folders
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ends(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """A function that runs a command and looks at how it ends."""

    def run(*words: str | Path) -> None:
        code = main([str(word) for word in words])
        written = capsys.readouterr()
        assert code in CODES
        assert "Traceback" not in written.err
        if code == 2:
            assert written.err.splitlines()[-1].startswith("jaxswap: ")

    return run


@pytest.mark.parametrize("count", COUNTS)
def test_settings_in_a_file(count: int, tmp_path: Path, ends: Any) -> None:
    def try_one(content: Any) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps(content))  # JSON is YAML, with any value.
        ends("train", "--print-config", "--config", path)

    fuzz(count, mutated(SETTINGS), try_one)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("name", "content"), [("list.json", LIST), ("dataset.json", DESCRIPTION)]
)
def test_descriptions_of_data(
    count: int, name: str, content: Any, tmp_path: Path, ends: Any
) -> None:
    root = tiny_datasets.nnunet(tmp_path / "raw", ("a",), ("T1", "FLAIR"))
    for place in ("a.nii", "a-seg.nii"):
        tiny_datasets.write(root / place, tiny_datasets.head())

    def try_one(content: Any) -> None:
        (root / name).write_text(json.dumps(content))
        ends("check", root if name == "dataset.json" else root / name, "--workers", "1")

    fuzz(count, mutated(content), try_one)


@pytest.mark.parametrize("count", COUNTS)
def test_headers_of_volumes(count: int, tmp_path: Path, ends: Any) -> None:
    names = {"image": "a.nii", "label": "b.nii"}
    tiny_datasets.write_json(
        tmp_path / "list.json", {"training": [names], "labels": {"a": 1}}
    )
    tiny_datasets.write(tmp_path / "b.nii", tiny_datasets.tumour((1,)))

    def try_one(changes: list[tuple[int, int]]) -> None:
        content = bytearray(HEADER)
        for place, value in changes:
            content[place] = value
        (tmp_path / "a.nii").write_bytes(content)
        ends("check", tmp_path / "list.json", "--workers", "1")

    byte = st.tuples(st.integers(0, 351), st.integers(0, 255))
    fuzz(count, st.lists(byte, min_size=1, max_size=4), try_one)
