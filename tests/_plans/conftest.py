"""Fixtures of tests about plans on disk."""

from pathlib import Path
from typing import Any

import pytest
from cached_plans import Program

from jaxswap import _request


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that plans are kept in, which does not exist yet."""
    folder = tmp_path / "cache" / "plans"
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(folder))
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The targets that programs were compiled for; nothing is compiled."""
    targets: list[Any] = []

    def inspect(fn: Any, *args: Any, target: Any, **options: Any) -> Program:
        targets.append(target)
        return Program()

    monkeypatch.setattr(_request, "inspect", inspect)
    return targets
