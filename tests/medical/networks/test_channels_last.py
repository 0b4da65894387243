"""Which conversions of features the compiled steps of the networks contain."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxswap
from jaxswap._gpu.options import CHANNELS_LAST
from jaxswap.medical.networks.residual_unet import ResidualUNet3D
from jaxswap.medical.networks.unet import UNet3D
from jaxswap.medical.networks.unet_program import unet_loss

SIDE = 48
NETWORKS: dict[str, Any] = {
    "isensee2017": UNet3D(base_filters=8, depth=3, segmentation_levels=2),
    "residual": ResidualUNet3D(features=(8, 16, 32), blocks=(1, 2, 1)),
}
# Features of the coarsest level. The largest kernel has half as many elements.
FEATURE = (SIDE // 4) ** 3 * 32
CONVERSION = re.compile(r"= \w+\[([\d,]*)\]\S* (?:transpose|copy|copy-start)\(")


def compiled_step(name: str, **options: Any) -> jaxswap.Evidence:
    network = NETWORKS[name]
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, SIDE, 4), jnp.bfloat16)
    targets = jax.ShapeDtypeStruct((1, SIDE, SIDE, SIDE, 3), jnp.bfloat16)
    parameters = jax.eval_shape(network.init, jax.random.key(0), images)
    step = jax.value_and_grad(unet_loss(network))
    arguments = (parameters, images, targets)
    return jaxswap.inspect(step, *arguments, target="h200", compiler_options=options)


def conversions(evidence: jaxswap.Evidence) -> list[tuple[int, ...]]:
    """Return the shapes of feature-sized arrays that are transposed or copied."""
    shapes = [
        tuple(map(int, filter(None, sizes.split(","))))
        for sizes in CONVERSION.findall(evidence.hlo_text)
    ]
    return [shape for shape in shapes if math.prod(shape) >= FEATURE]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_converts_no_features(name: str) -> None:
    evidence = compiled_step(name)
    assert conversions(evidence) == []
    layouts = set(re.findall(r"dim_labels=([\w>-]+)", evidence.hlo_text))
    assert layouts == {"b012f_o012i->b012f"}


def test_without_the_option_inputs_are_converted() -> None:
    evidence = compiled_step("isensee2017", **{CHANNELS_LAST: False})
    assert (1, 4, SIDE, SIDE, SIDE) in conversions(evidence)
