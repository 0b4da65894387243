"""Parameters of an earlier run, and which of them a network takes."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxswap.medical.runs.checkpoints import Checkpoints
from jaxswap.medical.runs.state import State
from jaxswap.medical.training.given_parameters import read_parameters


def saved(run: Path, which: str = "best") -> Path:
    """Make a run with a checkpoint and nothing else."""
    parameters = {"params": {"in": jnp.ones((3, 4)), "head": jnp.ones((4, 2))}}
    parameters["params"]["old"] = jnp.ones(1)
    state = State(parameters, (), (), jnp.int32(7))
    checkpoints = Checkpoints(run / "checkpoints")
    getattr(checkpoints, f"save_{which}")(state, {})
    (run / "config.yaml").write_text("data: d\n")
    return run


def wanted(**shapes: tuple[int, ...]) -> Any:
    return {
        "params": {
            name: jax.ShapeDtypeStruct(shape, jnp.float32)
            for name, shape in shapes.items()
        }
    }


@pytest.mark.parametrize("which", ["best", "latest"])
def test_what_fits_is_taken_and_the_rest_is_listed(tmp_path: Path, which: str) -> None:
    types = wanted(**{"in": (3, 4), "head": (4, 3), "new": (2,)})
    given = read_parameters(saved(tmp_path, which), types)
    drawn = jax.tree.map(lambda x: jnp.zeros(x.shape), types)
    put = given.put_into(drawn)["params"]
    assert jax.tree.map(lambda x: x.shape, put) == {
        "in": (3, 4),
        "head": (4, 3),
        "new": (2,),
    }
    np.testing.assert_array_equal(put["in"], 1)
    np.testing.assert_array_equal(put["head"], 0)
    assert given.describe().splitlines() == [
        f"Starts from {tmp_path}: 1 of its parameters. What differs is drawn anew:",
        "  params/head: (4, 2) there, (4, 3) here",
        "  params/new: missing there, (2,) here",
        "  params/old: missing here",
    ]


def test_a_run_that_cannot_be_started_from_is_named(tmp_path: Path) -> None:
    types = wanted(other=(1, 2))
    with pytest.raises(ValueError, match="which holds no training run"):
        read_parameters(tmp_path, types)
    with pytest.raises(ValueError, match="none of its 3 parameters fits"):
        read_parameters(saved(tmp_path / "a"), types)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match="has saved no checkpoint yet"):
        read_parameters(tmp_path, types)
