"""Networks by name and by import path."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxswap.medical.networks import networks
from jaxswap.medical.networks.networks import make_network, multiple_of


class Mine(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, volume: jax.Array, *, deterministic: bool = True) -> Any:
        return nn.Conv(self.classes, (1, 1, 1))(volume)


class WithoutClasses(nn.Module):
    @nn.compact
    def __call__(self, volume: jax.Array) -> jax.Array:
        return volume


def test_networks_of_the_package() -> None:
    unet = make_network(
        "isensee2017", {"base_filters": 4}, classes=3, precision="float32"
    )
    assert (unet.base_filters, unet.classes, unet.dtype) == (4, 3, jnp.float32)
    residual = make_network(
        "residual",
        {"features": [4, 8, 8], "blocks": [1, 1, 2]},
        classes=5,
        precision="bfloat16",
    )
    assert (residual.features, residual.classes) == ((4, 8, 8), 5)
    assert (multiple_of(unet), multiple_of(residual)) == (16, 4)


def test_layers_are_those_of_the_platform() -> None:
    for platform, layers in (("cpu", networks.CPU), ("gpu", networks.LEAN)):
        made = make_network(
            "residual", {}, classes=1, precision="float32", platform=platform
        )
        assert made.layers is layers


def test_a_users_network_by_import_path() -> None:
    made = make_network(f"{__name__}:Mine", {}, classes=2, precision="float32")
    assert isinstance(made, Mine)
    assert multiple_of(made) == 32


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {}, "`network` is 'unet'; choose isensee2017, residual"),
        ("no.module:Net", {}, "No module named"),
        ("..:Net", {}, "`network` is '..:Net': "),
        (":Net", {}, "`network` is ':Net': "),
        (f"{__name__}:Nothing", {}, "has no attribute"),
        (f"{__name__}:pytest", {}, "no Flax linen module class"),
        (f"{__name__}:WithoutClasses", {}, "has no field `classes`"),
        ("residual", {"filters": 4}, "`network_options` has 'filters'"),
        ("residual", {"classes": 4}, "`network_options` has 'classes'"),
    ],
)
def test_wrong_networks_are_named(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r"network|classes") as caught:
        make_network(name, options, classes=3, precision="float32")
    assert message in str(caught.value)


def test_deep_supervision_needs_a_network_that_can() -> None:
    options = {"classes": 1, "precision": "float32"}
    networks.check_deep_supervision(make_network("residual", {}, **options), "residual")
    with pytest.raises(ValueError, match="sums the scores of its levels"):
        networks.check_deep_supervision(
            make_network("isensee2017", {}, **options), "isensee2017"
        )
