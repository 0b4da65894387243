"""The comparison that other tests rest on notices what it is there for."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from trees import assert_same, made_up

TREE = {
    "loss": jnp.float32(16.0),
    "small": jnp.array([1e-2, -2e-2]),
    "zero": jnp.array([1e-9]),
    "count": jnp.array(3),
    "key": jax.random.key(0),
}


def test_rounding_is_let_pass() -> None:
    rounded = {**TREE, "small": TREE["small"] * (1 + 1e-6), "zero": jnp.zeros(1)}
    assert_same(rounded, TREE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"small": TREE["small"] * 1.01},
        {"small": TREE["small"].astype(jnp.bfloat16)},
        {"small": TREE["small"][:1]},
        {"small": jnp.full(2, jnp.nan)},
        {"count": jnp.array(4)},
        {"key": jax.random.key(1)},
        {"other": jnp.zeros(1)},
    ],
)
def test_differences_are_noticed(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        assert_same({**TREE, **wrong}, TREE)


def test_made_up_variances_are_positive() -> None:
    made = made_up(
        {"var": jax.ShapeDtypeStruct((50,), jnp.float32), "w": TREE["small"]}
    )
    assert jnp.all(made["var"] > 0)
    assert made["w"].shape == (2,)
