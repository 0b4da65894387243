"""The flag without which some versions of XLA compute wrong gradients of loops."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

from jaxswap._base.xla_flags import (
    FLAG,
    MISPLACES_SLICES,
    PASS,
    disabled_passes,
    place_slices,
)
from jaxswap._scheduler import refuse_wrong_slices

WRONG, RIGHT = "0.10.2", "0.12.0.1"
STARTED = {"jax_plugins.xla_cuda12"}


def test_the_pass_is_disabled_beside_those_of_the_user() -> None:
    environ = {"XLA_FLAGS": f"--xla_dump_to=x {FLAG}=fusion"}
    assert place_slices(WRONG, environ, set())
    assert disabled_passes(environ["XLA_FLAGS"]) == ["fusion", PASS]
    assert environ["XLA_FLAGS"].startswith("--xla_dump_to=x ")


def test_a_version_that_is_right_changes_nothing() -> None:
    environ: dict[str, str] = {}
    assert place_slices(RIGHT, environ, STARTED)
    assert environ == {}


def test_a_flag_that_is_there_is_left_alone() -> None:
    environ = {"XLA_FLAGS": f"{FLAG}={PASS}"}
    assert place_slices(WRONG, environ, STARTED)
    assert environ == {"XLA_FLAGS": f"{FLAG}={PASS}"}


def test_a_flag_that_comes_too_late_is_told() -> None:
    assert not place_slices(WRONG, {}, STARTED)
    refuse_wrong_slices("cpu", are_right=False)
    refuse_wrong_slices("gpu", are_right=True)
    with pytest.raises(RuntimeError, match="Import jaxswap first"):
        refuse_wrong_slices("gpu", are_right=False)


@pytest.mark.skipif(
    importlib.metadata.version("jaxlib") not in MISPLACES_SLICES,
    reason="this XLA copies the right slices",
)
def test_importing_jaxswap_sets_the_flag_and_does_not_load_jax() -> None:
    program = (
        "import os, sys, jaxswap; print(os.environ['XLA_FLAGS'], 'jax' in sys.modules)"
    )
    environ = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, "-c", program]
    said = subprocess.check_output(command, env=environ, text=True)
    assert said.split() == [f"{FLAG}={PASS}", "False"]
