"""Where runs find the cases that earlier runs prepared."""

from pathlib import Path

import pytest

from jaxswap.medical.data.named_labels import make_named_map
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder, Trained, cache_folder


def test_prepared_cases_are_kept_where_jaxswap_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / "prepared"
    monkeypatch.delenv("JAXSWAP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "jaxswap" / "prepared"


def test_what_a_prediction_needs_is_read_back(tmp_path: Path) -> None:
    config = RunConfig(tmp_path, labels={"left": 1017, "right": [3, 53]})
    labels = make_named_map({"left": 1017, "right": [3, 53]})
    trained = Trained(config, ("t1n", "t2f"), (16, 16, 32), labels)
    RunFolder(tmp_path).write(trained, None)
    assert RunFolder(tmp_path).read() == trained
