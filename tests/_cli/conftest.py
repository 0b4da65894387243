"""A folder with programs for `jaxswap plan` and `jaxswap inspect` to work on."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_datasets
from training_command import NAMES, TRAINED, trained_in

SOURCE = """
import jax
import jax.numpy as jnp


class Factories:
    def inner():
        return tiny()


def loss(weights, x):
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def tiny():
    w = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    return loss, ([w] * 3, jax.ShapeDtypeStruct((64, 16), jnp.float32))


def single():
    return lambda x: jnp.sum(x * x), jax.ShapeDtypeStruct((64, 16), jnp.float32)


def listed():
    fn, args = tiny()
    return fn, list(args)


def nonsense():
    return 3


def numbers():
    return 3, 4


def text():
    return loss, "abc"


def vector():
    return lambda x: x, (jax.ShapeDtypeStruct((4,), jnp.float32),)


def needy(argument):
    return tiny()


constant = 5
"""


@pytest.fixture
def folder(
    own_folders: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The current folder of a test, with the programs in it."""
    work = tmp_path / "work"
    work.mkdir()
    del own_folders
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (work / "programs.py").write_text(SOURCE)
    (work / "needs_gone.py").write_text("import gone_and_lost")
    known = set(sys.modules)
    importlib.invalidate_caches()
    yield work
    for name in set(sys.modules) - known:
        if str(work) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="session")
def data(tmp_path_factory: Any) -> Path:
    """Four cases to train on, which no test changes."""
    return tiny_datasets.brats(tmp_path_factory.mktemp("data"), NAMES)


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: Any) -> Path:
    """A run that was validated at its end, which no test changes."""
    folder = tmp_path_factory.mktemp("trained")
    return trained_in(folder, data, TRAINED, final_validation=True)
