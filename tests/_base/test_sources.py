"""The digest of the code changes with any file of it, and with nothing else."""

from pathlib import Path

import pytest

import jaxswap
from jaxswap._base.sources import digest_of


def digest_after(package: Path, name: str, text: str) -> str:
    """Write a file, and return the digest."""
    path = package / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    digest_of.cache_clear()
    return digest_of(package)


@pytest.mark.parametrize("name", ["search.py", "_sketch/core.c", "_sketch/core.h"])
def test_the_digest_changes_with_the_code(tmp_path: Path, name: str) -> None:
    before = digest_after(tmp_path, name, "1")
    assert digest_after(tmp_path, name, "2") != before
    assert digest_after(tmp_path, name, "1") == before
    (tmp_path / name).rename(tmp_path / f"other{Path(name).suffix}")
    digest_of.cache_clear()
    assert digest_of(tmp_path) != before


def test_what_is_no_code_is_left_out(tmp_path: Path) -> None:
    before = digest_after(tmp_path, "search.py", "1")
    assert digest_after(tmp_path, "__pycache__/search.pyc", "2") == before


def test_all_of_jaxswap_is_read_unless_told_otherwise() -> None:
    assert digest_of() == digest_of(Path(jaxswap.__file__).parent)
