"""The methods that the demo compares, and the table of them."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxswap._cli.methods_table import MethodRow, methods, tabulate
from jaxswap.medical.networks.unet import UNet3D


@pytest.mark.slow
def test_all_methods_have_one_value_and_gradient():
    model = UNet3D(base_filters=2, depth=2, segmentation_levels=1, dtype=jnp.float32)
    images = jax.random.normal(jax.random.key(0), (1, 8, 8, 8, 1))
    targets = jnp.concatenate([images > limit for limit in (0.0, 0.5, 1.0)], -1)
    parameters = jax.jit(model.init)(jax.random.key(0), images)
    found = {
        name: jax.jit(jax.value_and_grad(loss))(parameters, images, targets)
        for name, loss in methods(model).items()
    }
    expected = found.pop("plain")
    assert len(found) == 5
    for value, gradient in found.values():
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        for leaf, expected_leaf in zip(
            jax.tree.leaves(gradient), jax.tree.leaves(expected[1]), strict=True
        ):
            np.testing.assert_allclose(leaf, expected_leaf, atol=1e-4)


def test_the_table_shows_shares_of_its_first_row():
    rows = [
        MethodRow("plain", "h100", 192, 4 * 2**30, 0, 0, 0, 0, 0, 1.0),
        MethodRow("swapped", "h100", 192, 2**30, 2**30, 8, 2, 1000, 100, 1.0),
    ]
    file = io.StringIO()
    Console(file=file, width=80).print(tabulate(rows))
    line = next(line for line in file.getvalue().splitlines() if "swapped" in line)
    assert line.rstrip().split(maxsplit=4) == [
        "swapped",
        "1,024",
        "0.25",
        "1,024",
        "2 of 8 (10%)",
    ]
    assert json.loads(rows[1].to_json())["temp_bytes"] == 2**30


def test_the_table_fits_in_80_columns():
    rows = [
        MethodRow(name, "h100", 192, 2**40, 2**40, 100, 100, 1000, 1000, 1.0)
        for name in methods()
    ]
    file = io.StringIO()
    Console(file=file, width=80).print(tabulate(rows))
    text = file.getvalue()
    assert "…" not in text
    for shown in ("exposed copies", "(bytes)", "1,048,576", "100 of 100 (100%)"):
        assert shown in text
