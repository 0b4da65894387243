"""Where runs find the cases that earlier runs prepared."""

from pathlib import Path

import pytest

from jaxswap.medical.data.named_labels import make_named_map
from jaxswap.medical.preparing.normalization import Normalization
from jaxswap.medical.runs.run_config import RunConfig
from jaxswap.medical.runs.run_folder import RunFolder, cache_folder
from jaxswap.medical.runs.trained import Trained


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
    trained = Trained(
        config,
        ("CT", "t2f"),
        (16, 16, 32),
        labels,
        (1, 0),
        ((1.0, 1.0, 2.0), (1.0, 1.0, 3.0)),
        (Normalization("ct", -10.0, 90.5, 40.0, 12.0), Normalization()),
    )
    RunFolder(tmp_path).write(trained, None)
    assert RunFolder(tmp_path).read() == trained
    prepare = RunFolder(tmp_path).read().prepare_config(4)
    assert prepare.normalizations == trained.normalizations
    assert prepare.mask == "foreground"
