"""What a training step of the U-Net needs by each method, from compiled programs.

From the name of a GPU, which need not be in this machine, this file makes a row for
each way to compute value and gradient, with bytes and copies. Nothing is executed. So
the rows say what fits and what overlaps, but not how long a step takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from rich import box
from rich.table import Table

import jaxswap
from jaxswap.medical.networks.layers import TEXTBOOK
from jaxswap.medical.networks.unet import PAPER, UNet3D
from jaxswap.medical.networks.unet_program import Loss, loss_and_arguments, unet_loss


@dataclass(frozen=True)
class MethodRow:
    """What the compiled step of one method needs.

    Attributes:
        method: Name of the method.
        target: Name of the GPU.
        size: Voxels along each side of the volume.
        temp_bytes: Device bytes of temporaries (neither arguments nor results).
        host_bytes: Host bytes for swapped values.
        copies: Number of copies between device and host.
        exposed_copies: How many of the copies overlap no heavy operation.
        copied_bytes: Bytes of all copies in both directions.
        exposed_bytes: Bytes of the exposed copies.
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
        """Write the row as one line of JSON, with the versions that made it."""
        return json.dumps(asdict(self) | {"jax": jax.__version__})


def methods(unet: UNet3D = PAPER) -> dict[str, Loss]:
    """List the losses to compare, by name. All have the same value.

    Args:
        unet: The network.
    """
    loss = unet_loss(unet)
    offload_convolutions = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=list(unet.convolution_names),
        offload_src="device",
        offload_dst="pinned_host",
    )
    return {
        "plain, textbook layers": unet_loss(unet.clone(layers=TEXTBOOK)),
        "plain": loss,
        "jax.checkpoint, whole": jax.checkpoint(loss),
        "nn.remat, each block": unet_loss(unet.clone(lift=nn.remat)),
        "JAX's offload policy": jax.checkpoint(loss, policy=offload_convolutions),
        "jaxswap.offload": jaxswap.offload(loss),
    }


def check_target(target: str) -> None:
    """Raise the errors of `compile_methods` if it cannot compile for `target`.

    Args:
        target: Name of the GPU.

    Raises:
        ImportError: If JAX's CUDA plugin is not installed.
        ValueError: If the target is unknown.
    """
    jaxswap.inspect(jnp.negative, jax.ShapeDtypeStruct((8,), "float32"), target=target)


def compile_methods(size: int, target: str) -> Iterator[MethodRow]:
    """Compile one training step by each method, batch 1 and bfloat16 volumes.

    Args:
        size: Voxels along each side.
        target: Name of the GPU to compile for.

    Yields:
        A row as soon as its method is compiled, in the order of `methods`.

    Raises:
        ImportError: If JAX's CUDA plugin is not installed.
        ValueError: If the size does not fit the network or the target is unknown.
    """
    _, arguments = loss_and_arguments(size)
    for method, loss in methods().items():
        seen = jaxswap.inspect(
            jax.value_and_grad(loss),
            *arguments,
            target=target,
        )
        yield MethodRow(
            method=method,
            target=target,
            size=size,
            temp_bytes=seen.temp_bytes,
            host_bytes=seen.host_bytes,
            copies=len(seen.copies),
            exposed_copies=len(seen.exposed_copies),
            copied_bytes=seen.swapped_bytes,
            exposed_bytes=seen.exposed_bytes,
            compile_seconds=seen.compile_seconds,
        )


def tabulate(rows: Sequence[MethodRow]) -> Table:
    """Make a table of the rows. Shares are of the first row's temporaries."""
    first = rows[0]
    table = Table(
        title=f"One training step of the U-Net at {first.size}^3 in bfloat16, "
        f"compiled for {first.target.upper()}",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("method", no_wrap=True)
    for name in ("temp MiB", "share", "host MiB", "exposed copies\n(bytes)"):
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


def _exposed(row: MethodRow) -> str:
    if not row.copies:
        return "-"
    share = row.exposed_bytes / row.copied_bytes
    return f"{row.exposed_copies} of {row.copies} ({share:.0%})"
