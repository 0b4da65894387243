"""Text that anyone may have written becomes plain data, or is refused."""

from pathlib import Path

import pytest
import yaml

from jaxswap._base.plain import parse_plain, read_plain

DEEPEST = "[" * 200 + "]" * 200


def test_what_is_nested_as_deeply_as_allowed_is_read() -> None:
    assert isinstance(parse_plain(DEEPEST), list)


@pytest.mark.parametrize(
    "text", [f"[{DEEPEST}]", "[" * 100_000, '{"a":' * 100_000, f'{{"a": {DEEPEST}}}']
)
def test_what_is_nested_more_deeply_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it is nested too deeply"):
        parse_plain(text)


def test_what_contains_itself_is_nested_too_deeply() -> None:
    with pytest.raises(ValueError, match="it is nested too deeply"):
        parse_plain("&a [*a]", yaml.safe_load)


def test_what_is_named_a_million_times_is_looked_at_once() -> None:
    lines = ["a0: &a0 [x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 60)
    ]
    assert len(parse_plain("\n".join(lines), yaml.safe_load)) == 60


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1, 2, 3]")
    assert read_plain(path) == [1, 2, 3]
    with pytest.raises(ValueError, match="it has 9 bytes, more than 8"):
        read_plain(path, most_bytes=8)


def test_what_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match="utf-8"):
        read_plain(path)
