"""The programs on which ways to save memory are judged.

Each is a function that returns `(loss, args)`: a scalar loss, to be differentiated by
its first argument, the parameters, and its arguments as `jax.ShapeDtypeStruct`.
Nothing is executed. `PROGRAMS` are the real ones, `TINY` the same code in small, in
float32 unless the name says otherwise, so that gradients can be compared.

>>> loss, args = PROGRAMS["mlp"]()
>>> jax.eval_shape(loss, *args).shape
()
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax import ShapeDtypeStruct as Struct

from benchmarks import resnet, transformer
from benchmarks.resnet import ResNet
from benchmarks.transformer import Transformer
from jaxswap.medical.networks.layers import TEXTBOOK
from jaxswap.medical.networks.unet import PAPER, UNet3D
from jaxswap.medical.networks.unet_program import loss_and_arguments

Loss = Callable[..., Array]
Args = tuple[Any, ...]
Policy = Callable[..., Any]
CHANNELS = 4


class Program(Protocol):
    """Builds a loss and its arguments."""

    def __call__(self, *, policy: Policy | None = None) -> tuple[Loss, Args]:
        """Build it; with a policy, `jax.checkpoint` is around each of its blocks."""
        ...


def mlp(
    rows: int = 16384,
    width: int = 1024,
    layers: int = 24,
    *,
    group: int = 4,
    policy: Policy | None = None,
) -> tuple[Loss, Args]:
    """The textbook case: equal layers in a row, in float32, each activation 64 MiB.

    A block, for a policy, is a group of layers: of one layer nothing would be saved.
    """

    def block(x: Array, weights: list[Array]) -> Array:
        for weight in weights:
            x = jnp.tanh(x @ weight)
        return x

    if policy is not None:
        block = jax.checkpoint(block, policy=policy)

    def loss(weights: list[Array], x: Array) -> Array:
        for first in range(0, layers, group):
            x = block(x, weights[first : first + group])
        return jnp.sum(x**2)

    weights = [Struct((width, width), jnp.float32)] * layers
    return loss, (weights, Struct((rows, width), jnp.float32))


def unet3d(
    size: int, unet: UNet3D = PAPER, batch: int = 1, *, policy: Policy | None = None
) -> tuple[Loss, Args]:
    """The 3-D U-Net of Isensee et al. 2017 with dice loss, volumes of four channels.

    A block is one convolution with its normalisation.
    """
    if policy is not None:
        unet = unet.clone(lift=partial(nn.remat, policy=policy))

    return loss_and_arguments(size, unet, batch=batch, channels=CHANNELS)


def language_model(
    model: Transformer, batch: int = 8, *, policy: Policy | None = None
) -> tuple[Loss, Args]:
    """GPT-2 medium (Radford et al. 2019) on full sequences; a block is a layer."""
    model = model.clone(policy=policy)
    tokens = Struct((batch, model.positions), jnp.int32)
    parameters = jax.eval_shape(model.init, jax.random.key(0), tokens)
    return partial(transformer.cross_entropy, model), (parameters, tokens, tokens)


def classifier(
    model: ResNet, size: int, batch: int, *, policy: Policy | None = None
) -> tuple[Loss, Args]:
    """ResNet-50 (He et al. 2016) with square images; a block is a bottleneck."""
    model = model.clone(policy=policy)
    images = Struct((batch, size, size, 3), model.dtype)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    parameters = {"params": variables["params"]}
    labels = Struct((batch,), jnp.int32)
    return partial(resnet.cross_entropy, model), (parameters, images, labels)


PAPER_FP32 = PAPER.clone(dtype=jnp.float32)

PROGRAMS: dict[str, Program] = {
    "mlp": mlp,
    "unet3d-128-bf16": partial(unet3d, 128),
    "unet3d-192-bf16": partial(unet3d, 192),
    "unet3d-128-fp32": partial(unet3d, 128, PAPER_FP32),
    "unet3d-192-fp32": partial(unet3d, 192, PAPER_FP32),
    "transformer-unrolled": partial(language_model, Transformer()),
    "transformer-scanned": partial(language_model, Transformer(is_scanned=True)),
    "resnet50-512": partial(classifier, ResNet(), 512, 128),
}

_UNET = UNet3D(base_filters=2, depth=2, segmentation_levels=1, dropout=0.0)
_GPT = Transformer(2, 16, 2, 32, 8, dtype=jnp.float32)
_RESNET = ResNet((1, 1), 4, 10, dtype=jnp.float32)

TINY: dict[str, Program] = {
    "mlp": partial(mlp, 16, 8, 6),
    "unet3d-128-bf16": partial(unet3d, 8, _UNET),
    "unet3d-192-bf16": partial(unet3d, 12, _UNET),
    "unet3d-128-fp32": partial(unet3d, 8, _UNET.clone(dtype=jnp.float32)),
    "unet3d-192-fp32": partial(unet3d, 12, _UNET.clone(dtype=jnp.float32)),
    "transformer-unrolled": partial(language_model, _GPT, 2),
    "transformer-scanned": partial(language_model, _GPT.clone(is_scanned=True), 2),
    "resnet50-512": partial(classifier, _RESNET, 32, 4),
}

_UNET_NAME = re.compile(r"unet3d-(\d+)-(bf16|fp32)(?:-batch(\d+))?")


def unet_of(workload: str) -> tuple[int, str, int] | None:
    """Return side, type and batch of a U-Net's name; `None` for another program's."""
    found = _UNET_NAME.fullmatch(workload)
    return None if found is None else (int(found[1]), found[2], int(found[3] or 1))


def find_program(
    workload: str, *, is_tiny: bool = False, is_textbook: bool = False
) -> Program:
    """Return the program of a name.

    Args:
        workload: A key of `PROGRAMS`, or `"unet3d-SIDE-TYPE"` with any side that the
            network takes, `bf16` or `fp32`, and `"-batchN"` behind it for N volumes.
        is_tiny: Return a program of the same form that compiles and runs in seconds.
        is_textbook: Give the U-Net the layers as they are usually written.

    Raises:
        ValueError: If there is none of the name.
    """
    parts = unet_of(workload)
    if parts is None:
        programs = TINY if is_tiny else PROGRAMS
        if workload not in programs:
            raise ValueError(
                f"the workload is {workload!r}; choose one of {', '.join(PROGRAMS)} "
                "or a U-Net such as unet3d-256-bf16 or unet3d-128-fp32-batch2."
            )
        return programs[workload]
    side, kind, batch = parts
    unet = _UNET if is_tiny else PAPER
    unet = unet.clone(dtype=jnp.dtype({"bf16": "bfloat16", "fp32": "float32"}[kind]))
    if is_textbook:
        unet = unet.clone(layers=TEXTBOOK)
    return partial(unet3d, 8 if is_tiny else side, unet, batch)
