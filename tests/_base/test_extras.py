"""Libraries that are not installed, and the extras that the error names."""

import re
import tomllib
from pathlib import Path

import pytest

import jaxswap
from jaxswap._base.extras import EXTRAS, named_extras

PROJECT = Path(__file__).parent.parent.parent / "pyproject.toml"


def missing(library: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {library!r}", name=library)


@pytest.mark.parametrize(
    ("library", "preferred", "extra"),
    [
        ("grain", "", "medical"),
        ("orbax.checkpoint", "", "medical"),
        ("matplotlib.figure", "", "plots"),
        ("matplotlib", "medical", "medical"),
        ("nilearn", "medical", "data"),
    ],
)
def test_the_extra_is_named(library: str, preferred: str, extra: str) -> None:
    told = rf'`{library}`, which is not .* pip install "jaxswap\[{extra}\]"'
    with pytest.raises(jaxswap.MissingExtraError, match=told), named_extras(preferred):
        raise missing(library)


@pytest.mark.parametrize(
    "error",
    [missing("gone"), ModuleNotFoundError("no name"), ImportError("x", name="grain")],
)
def test_other_errors_are_left_alone(error: ImportError) -> None:
    with pytest.raises(ImportError) as caught, named_extras():
        raise error
    assert caught.value is error


def test_each_extra_brings_its_libraries() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    packages = {"absl": "absl-py", "orbax": "orbax-checkpoint", "yaml": "pyyaml"}
    for library, extras in EXTRAS.items():
        package = packages.get(library, library)
        for extra in extras:
            brought = project["optional-dependencies"][extra]
            assert package in {re.split(r"[^\w-]", line)[0] for line in brought}
