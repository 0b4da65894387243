"""Commands that run programs ask for the address space that JAX needs."""

import resource

import pytest

from jaxswap._cli.main import main

COMMANDS = [
    ["train", "data", "--out", "run"],
    ["predict", "run", "data", "--out", "labels"],
    ["compare", "out"],
    ["demo", "--out", "out"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_too_little_is_refused_before_anything_is_read(
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**31, 2**31))
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "jaxswap: the address space is limited to 2.00 GiB, and JAX needs at least "
        "3.00 GiB: raise `ulimit -v`."
    )


def test_without_a_limit_the_data_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: unlimited)
    assert main(["train", "no-such-data", "--out", "run"]) == 2
    assert "no-such-data" in capsys.readouterr().err
