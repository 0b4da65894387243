"""Rates that a GPU sustains: what predicts the seconds of a program.

Numbers in, numbers out; nothing of JAX.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from jaxswap._gpu.work import Work

# How the name of a field ends, its unit as people write it, and what is stored.
_UNITS = {
    "_flops_per_second": ("TFLOP/s", "operations a second"),
    "_bytes_per_second": ("GB/s", "bytes a second"),
    "_seconds": ("us", "seconds"),
}
_SCALES = {"TFLOP/s": 1e12, "GB/s": 1e9, "us": 1e-6}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """What one GPU sustains.

    Arithmetic is counted in whole tiles of matrix units: a tile that is not full takes
    as long as a full one.

    Attributes:
        bf16_matmul_flops_per_second: Large matrix products, 16-bit inputs.
        tf32_matmul_flops_per_second: The same, fp32 inputs, JAX's default precision.
        fp32_matmul_flops_per_second: The same, fp32 inputs, precision `"highest"`.
        bf16_convolution_flops_per_second: Convolutions and the gradients of their
            inputs, 16-bit inputs.
        tf32_convolution_flops_per_second: The same, fp32 inputs, default precision.
        fp32_convolution_flops_per_second: The same, precision `"highest"`.
        bf16_kernel_gradient_flops_per_second: Gradients of the kernels of convolutions,
            16-bit inputs.
        tf32_kernel_gradient_flops_per_second: The same, fp32 inputs, default precision.
        fp32_kernel_gradient_flops_per_second: The same, precision `"highest"`.
        memory_bytes_per_second: Reads and writes of device memory together.
        reduction_bytes_per_second: The same, of kernels that sum or take a maximum.
        conversion_bytes_per_second: Reads and writes while cuDNN brings features from
            channels first to channels last, or back.
        swap_out_bytes_per_second: Device to pinned host memory, nothing the other way.
        swap_in_bytes_per_second: Pinned host memory to device, nothing the other way.
        swap_out_both_ways_share: Share of its rate that swapping out keeps while there
            is swapping in.
        swap_in_both_ways_share: Share of its rate that swapping in keeps while there is
            swapping out.
        copy_latency_seconds: Fixed cost of one copy.
        launch_seconds: Fixed cost of one kernel.
        tiles_at_once: Tiles of matrix products that are computed at once: one on each
            multiprocessor.
        call_seconds: Fixed cost of one call of a compiled program: until its first
            kernel starts, and from the end of the last one until the caller knows.
        pinning_bytes_per_second: Host memory that becomes pinned. A program that swaps
            pays this at its first call.
        operations: Heavy operations that were timed one by one: name and seconds.
        is_measured: Whether these were measured on a GPU, rather than published.
        source: Where the numbers come from; if measured: GPU, date and JAX version.

    Raises:
        ValueError: If a rate or a time is not positive and finite, or a share not in
            (0, 1]; the text names the field.

    Example:
        >>> import dataclasses, jaxswap
        >>> h100 = jaxswap.find_target("h100")
        >>> rates = dataclasses.replace(
        ...     jaxswap.extend.rates_of(h100), swap_out_bytes_per_second=40e9)
        >>> mine = dataclasses.replace(h100, rates=rates)
    """

    bf16_matmul_flops_per_second: float
    tf32_matmul_flops_per_second: float
    fp32_matmul_flops_per_second: float
    bf16_convolution_flops_per_second: float
    tf32_convolution_flops_per_second: float
    fp32_convolution_flops_per_second: float
    bf16_kernel_gradient_flops_per_second: float
    tf32_kernel_gradient_flops_per_second: float
    fp32_kernel_gradient_flops_per_second: float
    memory_bytes_per_second: float
    reduction_bytes_per_second: float
    conversion_bytes_per_second: float
    swap_out_bytes_per_second: float
    swap_in_bytes_per_second: float
    swap_out_both_ways_share: float
    swap_in_both_ways_share: float
    copy_latency_seconds: float
    launch_seconds: float
    tiles_at_once: float
    call_seconds: float
    pinning_bytes_per_second: float
    operations: tuple[tuple[str, float], ...] = ()
    is_measured: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        for name in numbers():
            _check(name, getattr(self, name))
        check_operations(self.operations, "Rates")

    def flops_per_second(self, work: Work) -> float:
        """Floating point operations a second of one kind of arithmetic."""
        return getattr(self, f"{work}_flops_per_second")

    @property
    def basis(self) -> str:
        """What the rates rest on, in a word: `"calibrated"` or `"published"`."""
        return "calibrated" if self.is_measured else "published"

    @functools.cached_property
    def operation_seconds(self) -> Mapping[str, float]:
        """Seconds of each operation that was timed, by its name."""
        return dict(self.operations)


def numbers() -> tuple[str, ...]:
    """Return the names of those fields of `Rates` that are numbers."""
    others = ("operations", "is_measured", "source")
    return tuple(f.name for f in dataclasses.fields(Rates) if f.name not in others)


def check_operations(operations: Iterable[tuple[str, float]], where: str) -> None:
    """Check the times of single operations.

    Args:
        operations: Name and seconds of each.
        where: The class that holds them, for the message.

    Raises:
        ValueError: If some seconds are not positive and finite; the text names them.
    """
    for name, seconds in operations:
        if not (isinstance(seconds, float) and 0 < seconds < math.inf):
            raise ValueError(
                f"`operations` of `{where}` has {seconds!r} for {name!r}: give a "
                "positive, finite number of seconds."
            )


def rate_text(name: str, value: float) -> str:
    """Write one field of `Rates` for people.

    Args:
        name: The field.
        value: Its value.

    Returns:
        Text such as `"bf16 matmul: 712.0 TFLOP/s"`.

    Example:
        >>> rate_text("swap_in_bytes_per_second", 25.2e9)
        'swap in: 25.2 GB/s'
        >>> rate_text("launch_seconds", 3e-6)
        'launch: 3.0 us'
    """
    for end, (unit, _) in _UNITS.items():
        if name.endswith(end):
            scale = _SCALES[unit]
            what = name.removesuffix(end).replace("_", " ")
            return f"{what}: {value / scale:.1f} {unit}"
    digits = 2 if name.endswith("_share") else 0
    return f"{name.replace('_', ' ')}: {value:.{digits}f}"


def _check(name: str, value: Any) -> None:
    is_share = name.endswith("_share")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 < value < math.inf and (value <= 1 or not is_share):
        return
    if is_share:
        wanted = "a share above 0 and at most 1, where 1 is two copies that do not meet"
    else:
        units = (u for end, (_, u) in _UNITS.items() if name.endswith(end))
        wanted = f"a positive, finite number of {next(units, 'tiles')}"
    raise ValueError(f"`{name}` of `Rates` is {value!r}: give {wanted}.")
