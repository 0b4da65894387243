"""Rates that a GPU sustains, and how they follow from the peaks that are published.

Numbers in, numbers out; nothing of JAX.

Sources of the shares. [mamf] and [c2c] are the tables "Maximum Achievable Matmul
FLOPS" and "NVLink-C2C" of Stas Bekman's Machine Learning Engineering
(github.com/stas00/ml-engineering, `compute/accelerator` and `network`). [nvb] is the
README of github.com/NVIDIA/nvbandwidth, [a100] issue 53 there, [blog] NVIDIA's
article on that tool. [h800] and [nvl] are what owners of eight H800 and of one H100
NVL measured and put on GitHub. [babel] is github.com/UoB-HPC/BabelStream issue 194,
[conv] github.com/ggml-org/llama.cpp pull request 16948, [xla] the performance model of
openxla/xla, [dualpath] Wu et al. 2026, "DualPath: Breaking the Storage Bandwidth
Bottleneck in Agentic LLM Inference", section 5.2.
"""

import dataclasses
import math
from typing import Any

from jaxswap._gpu.work import Work

# Published, of the dense peak. bf16, best of many shapes [mamf]: A100 0.86, GH200 0.83,
# H100 0.80, B200 0.78. H100 NVL at 4096 cubed [nvl]: tf32 0.64, fp32 0.75. The number
# for the products of real models, which have other shapes, is an estimate.
_MATMUL_SHARE = 0.7

# Published: cuDNN, 3x3x3, 320 to 1280 channels, 16-bit, RTX 4090: 0.75 to 0.82 of the
# dense peak (from the times in [conv]). A U-Net's 16 to 128 channels fill the tiles of
# the matrix units worse and their gradients worse still: an estimate.
_CONVOLUTION_SHARE = 0.5

# Published: copy and add, H100 NVL 0.91 [nvl]; copy 0.74 and triad 0.83, GH200 [babel].
_MEMORY_SHARE = 0.9

# Published, one way from or to pinned memory. PCIe 4.0 x16: 24.8 to 26.0 GB/s, or 0.79
# to 0.83 [nvb, a100]. PCIe 5.0 x16: 55.1 to 55.6 GB/s, or 0.88 [h800, blog]. GH200: in
# 359 and out 377 GB/s, or 0.80 and 0.84 [c2c].
_COPY_SHARE = 0.8

# Published, in and out, each of its own rate alone: 0.72 in [nvb], 0.44 and 0.97
# [a100], 0.95 and 0.63 [h800]. One number for both directions is their mean.
_BOTH_WAYS_SHARE = 0.75

# Published: 0.49 and 0.46 on GH200, where host memory and not the link sets the rate
# [c2c]. The limit lies above every PCIe 6.0 x16 (121 GB/s) and below NVLink-C2C (450).
_CHIP_TO_CHIP_BYTES_PER_SECOND = 200e9
_CHIP_TO_CHIP_BOTH_WAYS_SHARE = 0.48

# Published: 5 to 7 us to submit one copy [dualpath]. The rest, until it runs and until
# the waiting stream goes on, is an estimate.
_COPY_LATENCY_SECONDS = 10e-6

# Published: 1.3 us in a CUDA graph and 4.2 us launched one by one [nvl]; [xla] reckons
# with 1 us, and with 5 us in earlier versions. XLA does both: an estimate.
_LAUNCH_SECONDS = 3e-6

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

    Attributes:
        bf16_matmul_flops_per_second: Large matrix products, 16-bit inputs.
        tf32_matmul_flops_per_second: The same, fp32 inputs, JAX's default precision.
        fp32_matmul_flops_per_second: The same, fp32 inputs, precision `"highest"`.
        bf16_convolution_flops_per_second: Convolutions and their gradients, 16-bit.
        tf32_convolution_flops_per_second: The same, fp32 inputs, default precision.
        fp32_convolution_flops_per_second: The same, precision `"highest"`.
        memory_bytes_per_second: Reads and writes of device memory together.
        swap_out_bytes_per_second: Device to pinned host memory, nothing the other way.
        swap_in_bytes_per_second: Pinned host memory to device, nothing the other way.
        both_ways_share: Share of its rate that each direction keeps while both run.
        copy_latency_seconds: Fixed cost of one copy.
        launch_seconds: Fixed cost of one kernel.
        is_measured: Whether these were measured on a GPU, rather than published.
        source: Where the numbers come from; if measured: GPU, date and JAX version.

    Raises:
        ValueError: If a rate or a time is not positive and finite, or the share not in
            (0, 1]; the text names the field.

    Example:
        >>> import dataclasses, jaxswap
        >>> rates = jaxswap.Rates(
        ...     bf16_matmul_flops_per_second=690e12,
        ...     tf32_matmul_flops_per_second=340e12,
        ...     fp32_matmul_flops_per_second=46e12,
        ...     bf16_convolution_flops_per_second=490e12,
        ...     tf32_convolution_flops_per_second=250e12,
        ...     fp32_convolution_flops_per_second=33e12,
        ...     memory_bytes_per_second=3e12,
        ...     swap_out_bytes_per_second=50e9,
        ...     swap_in_bytes_per_second=50e9,
        ...     both_ways_share=0.75,
        ...     copy_latency_seconds=1e-5,
        ...     launch_seconds=3e-6)
        >>> mine = dataclasses.replace(jaxswap.find_target("h100"), rates=rates)
    """

    bf16_matmul_flops_per_second: float
    tf32_matmul_flops_per_second: float
    fp32_matmul_flops_per_second: float
    bf16_convolution_flops_per_second: float
    tf32_convolution_flops_per_second: float
    fp32_convolution_flops_per_second: float
    memory_bytes_per_second: float
    swap_out_bytes_per_second: float
    swap_in_bytes_per_second: float
    both_ways_share: float
    copy_latency_seconds: float
    launch_seconds: float
    is_measured: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name not in ("is_measured", "source"):
                _check(field.name, getattr(self, field.name))

    def flops_per_second(self, work: Work) -> float:
        """Floating point operations a second of one kind of arithmetic."""
        return getattr(self, f"{work}_flops_per_second")


def usual_rates(
    *,
    bf16_flops_per_second: float,
    tf32_flops_per_second: float,
    fp32_flops_per_second: float,
    memory_bytes_per_second: float,
    host_link_bytes_per_second: float,
    source: str = "",
) -> Rates:
    """Estimate what a GPU sustains from its published peaks.

    Args:
        bf16_flops_per_second: Dense peak of matrix units with 16-bit inputs.
        tf32_flops_per_second: Dense peak of matrix units with fp32 inputs.
        fp32_flops_per_second: Peak of the ordinary fp32 units.
        memory_bytes_per_second: Peak bandwidth of device memory.
        host_link_bytes_per_second: Peak bandwidth to and from host memory, each way.
        source: Where the peaks come from.

    Returns:
        The peaks times the shares that such GPUs usually reach.

    Raises:
        ValueError: If a peak is not positive and finite.

    Example:
        >>> rates = usual_rates(
        ...     bf16_flops_per_second=312e12, tf32_flops_per_second=156e12,
        ...     fp32_flops_per_second=19.5e12, memory_bytes_per_second=2e12,
        ...     host_link_bytes_per_second=31.5e9)
        >>> rates.swap_out_bytes_per_second
        25200000000.0
    """
    is_chip_to_chip = host_link_bytes_per_second > _CHIP_TO_CHIP_BYTES_PER_SECOND
    copy_bytes_per_second = _COPY_SHARE * host_link_bytes_per_second
    return Rates(
        bf16_matmul_flops_per_second=_MATMUL_SHARE * bf16_flops_per_second,
        tf32_matmul_flops_per_second=_MATMUL_SHARE * tf32_flops_per_second,
        fp32_matmul_flops_per_second=_MATMUL_SHARE * fp32_flops_per_second,
        bf16_convolution_flops_per_second=_CONVOLUTION_SHARE * bf16_flops_per_second,
        tf32_convolution_flops_per_second=_CONVOLUTION_SHARE * tf32_flops_per_second,
        fp32_convolution_flops_per_second=_CONVOLUTION_SHARE * fp32_flops_per_second,
        memory_bytes_per_second=_MEMORY_SHARE * memory_bytes_per_second,
        swap_out_bytes_per_second=copy_bytes_per_second,
        swap_in_bytes_per_second=copy_bytes_per_second,
        both_ways_share=(
            _CHIP_TO_CHIP_BOTH_WAYS_SHARE if is_chip_to_chip else _BOTH_WAYS_SHARE
        ),
        copy_latency_seconds=_COPY_LATENCY_SECONDS,
        launch_seconds=_LAUNCH_SECONDS,
        source=source,
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
    return f"{name.replace('_', ' ')}: {value:.2f}"


def _check(name: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 < value < math.inf and (value <= 1 or name != "both_ways_share"):
        return
    if name == "both_ways_share":
        wanted = "a share above 0 and at most 1, where 1 is two copies that do not meet"
    else:
        unit = next(u for end, (_, u) in _UNITS.items() if name.endswith(end))
        wanted = f"a positive, finite number of {unit}"
    raise ValueError(f"`{name}` of `Rates` is {value!r}: give {wanted}.")
