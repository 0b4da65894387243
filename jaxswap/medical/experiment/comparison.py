"""What one training step needs, by method, read from programs compiled for a GPU.

In: a size and the name of a GPU, which need not be there. Out: a row for each way of
computing value and gradient of the U-Net's loss, with bytes and copies. Nothing is
executed, so this says what fits and what overlaps, not how long a step takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from rich import box
from rich.table import Table

import jaxswap
from jaxswap.medical.networks.layers import TEXTBOOK
from jaxswap.medical.networks.unet import PAPER, UNet3D
from jaxswap.medical.training.losses import dice_loss

Loss = Callable[[Any, Array, Array], Array]


@dataclass(frozen=True)
class Row:
    """What the compiled step of one method needs.

    Attributes:
        method: Name of the method.
        target: Name of the GPU.
        size: Voxels along each side of the volume.
        temp_bytes: Device bytes besides arguments and results.
        host_bytes: Host bytes for swapped values.
        copies: Number of copies between device and host.
        exposed_copies: Those of them that overlap no heavy operation.
        copied_bytes: Bytes of all copies, both directions.
        exposed_bytes: Bytes of the exposed ones.
        compile_seconds: Time that XLA took.
    """

    method: str
    target: str
    size: int
    temp_bytes: int
    host_bytes: int
    copies: int
    exposed_copies: int
    copied_bytes: int
    exposed_bytes: int
    compile_seconds: float

    def to_json(self) -> str:
        """Write the row as one line of JSON, with the versions it was made with."""
        return json.dumps(asdict(self) | {"jax": jax.__version__})


def methods(unet: UNet3D = PAPER) -> dict[str, Loss]:
    """List the losses that are compared, by name; all have the same value.

    Args:
        unet: The network.

    Returns:
        Functions of parameters, images and targets.
    """
    loss = _loss(unet)
    policies = jax.checkpoint_policies
    offload_convolutions = policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=list(unet.convolution_names),
        offload_src="device",
        offload_dst="pinned_host",
    )
    return {
        "plain, textbook layers": _loss(unet.clone(layers=TEXTBOOK)),
        "plain": loss,
        "jax.checkpoint, whole": jax.checkpoint(loss),
        "nn.remat, each block": _loss(unet.clone(lift=nn.remat)),
        "JAX's offload policy": jax.checkpoint(loss, policy=offload_convolutions),
        "jaxswap.offload": jaxswap.offload(loss),
    }


def check_target(target: str) -> None:
    """Raise what `compare` would raise if it cannot compile for `target`.

    Args:
        target: Name of the GPU.

    Raises:
        ImportError: If JAX's CUDA plugin is not installed.
        ValueError: If the target is unknown.
    """
    jaxswap.inspect(jnp.negative, jax.ShapeDtypeStruct((8,), "float32"), target=target)


def compare(
    size: int = 192, target: str = "h100", channels: int = 4, unet: UNet3D = PAPER
) -> Iterator[Row]:
    """Compiles one training step by each method, batch 1 and bfloat16 volumes.

    Every method gets `jaxswap.compiler_options()`, so that copies can overlap.

    Args:
        size: Voxels along each side.
        target: Name of the GPU to compile for.
        channels: Channels of the images.
        unet: The network.

    Yields:
        A row as soon as its method is compiled, in the order of `methods`.

    Raises:
        ImportError: If JAX's CUDA plugin is not installed.
        ValueError: If the size does not fit the network or the target is unknown.
    """
    _, arguments = loss_and_arguments(size, "bfloat16", channels, unet)
    for method, loss in methods(unet).items():
        seen = jaxswap.inspect(
            jax.value_and_grad(loss),
            *arguments,
            target=target,
            compiler_options=jaxswap.compiler_options(),
        )
        yield Row(
            method=method,
            target=target,
            size=size,
            temp_bytes=seen.temp_bytes,
            host_bytes=seen.host_bytes,
            copies=len(seen.copies),
            exposed_copies=len(seen.exposed_copies),
            copied_bytes=sum(copy.nbytes for copy in seen.copies),
            exposed_bytes=seen.exposed_bytes,
            compile_seconds=seen.compile_seconds,
        )


def tabulate(rows: list[Row]) -> Table:
    """Draws the rows as a table; shares are of the first row's temporaries."""
    first = rows[0]
    table = Table(
        title=f"One training step of the U-Net at {first.size}^3 in bfloat16, "
        f"compiled for {first.target.upper()}",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("method", no_wrap=True)
    for name in ("temp MiB", "share", "host MiB", "exposed copies (bytes)"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.method,
            f"{row.temp_bytes / 2**20:,.0f}",
            f"{row.temp_bytes / first.temp_bytes:.2f}",
            f"{row.host_bytes / 2**20:,.0f}",
            _exposed(row),
        )
    return table


def loss_and_arguments(
    size: int, dtype: str = "bfloat16", channels: int = 4, unet: UNet3D = PAPER
) -> tuple[Loss, tuple[Any, Array, Array]]:
    """Describe one training step, batch 1, for `jaxswap.plan` and `jaxswap.inspect`.

    Args:
        size: Voxels along each side.
        dtype: Type of the volumes and activations.
        channels: Channels of the images.
        unet: The network.

    Returns:
        The loss, and the types of its parameters, images and targets.

    Raises:
        ValueError: If the size does not fit the network.

    Example:
        >>> loss, (parameters, images, targets) = loss_and_arguments(32)
        >>> images.shape
        (1, 32, 32, 32, 4)
    """
    unet = unet.clone(dtype=jnp.dtype(dtype))
    shape = (1, size, size, size)
    images: Any = jax.ShapeDtypeStruct((*shape, channels), dtype)
    targets: Any = jax.ShapeDtypeStruct((*shape, unet.classes), dtype)
    parameters = jax.eval_shape(unet.init, jax.random.key(0), images)
    return _loss(unet), (parameters, images, targets)


def _loss(unet: UNet3D) -> Loss:
    return partial(_loss_of, unet)


def _loss_of(unet: UNet3D, parameters: Any, images: Array, targets: Array) -> Array:
    logits = unet.apply(parameters, images)
    assert isinstance(logits, jax.Array)
    return dice_loss(logits, targets)


def _exposed(row: Row) -> str:
    if not row.copies:
        return "-"
    share = row.exposed_bytes / row.copied_bytes
    return f"{row.exposed_copies} of {row.copies} ({share:.0%})"
