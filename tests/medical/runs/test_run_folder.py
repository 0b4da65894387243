"""Where runs find the cases that earlier runs prepared."""

from pathlib import Path

import pytest

from jaxswap.medical.runs.run_folder import cache_folder


def test_prepared_cases_are_kept_where_jaxswap_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / "prepared"
    monkeypatch.delenv("JAXSWAP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "jaxswap" / "prepared"
