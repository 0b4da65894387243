"""Published peaks of a GPU -> the rates that such GPUs sustain.

Numbers in, numbers out; nothing of JAX.

Sources of the shares. [h200] are the timings of one NVIDIA H200 of 2026-11-28 in
`benchmarks/results/device-nvidia-h200.jsonl`; `python -m benchmarks.accuracy` shows how
well the shares predict them, and with `--fit` how they follow from them. [mamf] and
[c2c] are the tables "Maximum Achievable Matmul FLOPS" and "NVLink-C2C" of Stas Bekman's
Machine Learning Engineering (github.com/stas00/ml-engineering,
`compute/accelerator` and `network`). [nvb] is the README of
github.com/NVIDIA/nvbandwidth, [a100] issue 53 there, [blog] NVIDIA's article on that
tool. [h800] and [nvl] are what owners of eight H800 and of one H100 NVL measured and
put on GitHub. [babel] is github.com/UoB-HPC/BabelStream issue 194.
"""

from dataclasses import dataclass

from jaxswap._gpu.rates import Rates


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What programs reach of the published peaks, and what they lose each time.

    Attributes:
        matmul: Of the dense peak, by matrix products whose tiles fill the GPU. [h200]:
            0.75 to 0.79 at 8192 cubed, up to 0.79 for those of an MLP. Published, bf16,
            best of many shapes [mamf]: A100 0.86, GH200 0.83, H100 0.80, B200 0.78.
        convolution: Of the dense peak, by convolutions and the gradients of their
            inputs, in whole tiles. [h200]: 0.25 for 16 channels, 0.22 for 32.
        kernel_gradient: The same for the gradients of kernels. [h200]: 0.165 for 16
            channels, 0.153 for 32.
        fp32_convolution: Of the ordinary fp32 units' peak, by convolutions at precision
            `"highest"`.
        fp32_kernel_gradient: The same for the gradients of kernels.
        before_hopper: How much larger the shares of convolutions are before Hopper. The
            kernels that cuDNN ran on the H200 are those that it has for Ampere. A
            multiprocessor of an A100 that runs them as fast in each clock cycle reaches
            this much more of its lower peak. An estimate.
        memory: Of the peak bandwidth, by kernels that compute each element by itself.
            [h200]: an addition of large arrays 0.88, those of steps less. Published,
            copy and add: H100 NVL 0.91 [nvl]; copy 0.74 and triad 0.83 on GH200
            [babel].
        reduction: The same by kernels that sum or take a maximum. [h200]: 0.38 to 0.47
            for the normalisations of a U-Net, 0.36 for the softmax of a transformer.
        conversion: Of the peak bandwidth, by cuDNN's conversions of features. [h200]:
            0.28 for 16 channels, 0.39 for 32.
        copy: Of the link, one way from or to pinned memory. [h200], PCIe 5.0: 0.86 out
            and 0.87 in. Published: PCIe 4.0 0.79 to 0.83 [nvb, a100], PCIe 5.0 0.88
            [h800, blog].
        chip_to_chip_copy: The same where the GPU shares a package with its host.
            Published: GH200 in 0.80 and out 0.84 [c2c].
        both_ways: Of its rate, what a copy keeps while there is one the other way.
            [h200]: 0.79. Published, in and out: 0.72 in [nvb], 0.44 and 0.97 [a100],
            0.95 and 0.63 [h800].
        chip_to_chip_both_ways: The same where host memory and not the link sets the
            rate. Published: 0.49 and 0.46 on GH200 [c2c].
        copy_latency_seconds: Fixed cost of a copy [h200].
        launch_seconds: Fixed cost of a kernel that is simulated, for which XLA may run
            two. [h200]: steps take longer than their kernels and the copies that
            nothing hides, by 1.4 ms for an MLP, 2 to 3 for a U-Net and 10 for a
            transformer, which have 119, 457 and 1,701 such kernels.
        call_seconds: Fixed cost of a call [h200]: what of that is left.
        pinning_bytes_per_second: Host memory that becomes pinned. [h200]: the first
            call of a program that swaps 2 GB took 1.7 s.
    """

    matmul: float = 0.78
    convolution: float = 0.225
    kernel_gradient: float = 0.15
    fp32_convolution: float = 0.3
    fp32_kernel_gradient: float = 0.027
    before_hopper: float = 1.85
    memory: float = 0.83
    reduction: float = 0.37
    conversion: float = 0.3
    copy: float = 0.85
    chip_to_chip_copy: float = 0.8
    both_ways: float = 0.79
    chip_to_chip_both_ways: float = 0.48
    copy_latency_seconds: float = 7.4e-6
    launch_seconds: float = 6e-6
    call_seconds: float = 0.7e-3
    pinning_bytes_per_second: float = 1.2e9


USUAL = Shares()
"""Those of an H200."""

_CHIP_TO_CHIP_BYTES_PER_SECOND = 200e9
"""Above every PCIe 6.0 x16 (121e9), below NVLink-C2C (450e9)."""


def usual_rates(
    *,
    bf16_flops_per_second: float,
    tf32_flops_per_second: float,
    fp32_flops_per_second: float,
    memory_bytes_per_second: float,
    host_link_bytes_per_second: float,
    core_count: int,
    is_before_hopper: bool = False,
    source: str = "",
    shares: Shares = USUAL,
) -> Rates:
    """Estimate what a GPU sustains from its published peaks.

    Args:
        bf16_flops_per_second: Dense peak of matrix units with 16-bit inputs.
        tf32_flops_per_second: Dense peak of matrix units with fp32 inputs.
        fp32_flops_per_second: Peak of the ordinary fp32 units.
        memory_bytes_per_second: Peak bandwidth of device memory.
        host_link_bytes_per_second: Peak bandwidth to and from host memory, each way.
        core_count: Multiprocessors.
        is_before_hopper: Whether the matrix units are older than Hopper's.
        source: Where the peaks come from.
        shares: What programs reach of the peaks.

    Returns:
        The peaks times the shares.

    Raises:
        ValueError: If a peak is not positive and finite.

    Example:
        >>> rates = usual_rates(
        ...     bf16_flops_per_second=312e12, tf32_flops_per_second=156e12,
        ...     fp32_flops_per_second=19.5e12, memory_bytes_per_second=2e12,
        ...     host_link_bytes_per_second=32e9, core_count=108)
        >>> round(rates.swap_out_bytes_per_second / 1e9, 1)
        27.2
    """
    is_chip_to_chip = host_link_bytes_per_second > _CHIP_TO_CHIP_BYTES_PER_SECOND
    both_ways = shares.chip_to_chip_both_ways if is_chip_to_chip else shares.both_ways
    copy = shares.chip_to_chip_copy if is_chip_to_chip else shares.copy
    times = shares.before_hopper if is_before_hopper else 1.0
    convolution = times * shares.convolution
    gradient = times * shares.kernel_gradient
    return Rates(
        bf16_matmul_flops_per_second=shares.matmul * bf16_flops_per_second,
        tf32_matmul_flops_per_second=shares.matmul * tf32_flops_per_second,
        fp32_matmul_flops_per_second=shares.matmul * fp32_flops_per_second,
        bf16_convolution_flops_per_second=convolution * bf16_flops_per_second,
        tf32_convolution_flops_per_second=convolution * tf32_flops_per_second,
        fp32_convolution_flops_per_second=(
            shares.fp32_convolution * fp32_flops_per_second
        ),
        bf16_kernel_gradient_flops_per_second=gradient * bf16_flops_per_second,
        tf32_kernel_gradient_flops_per_second=gradient * tf32_flops_per_second,
        fp32_kernel_gradient_flops_per_second=(
            shares.fp32_kernel_gradient * fp32_flops_per_second
        ),
        memory_bytes_per_second=shares.memory * memory_bytes_per_second,
        reduction_bytes_per_second=shares.reduction * memory_bytes_per_second,
        conversion_bytes_per_second=shares.conversion * memory_bytes_per_second,
        swap_out_bytes_per_second=copy * host_link_bytes_per_second,
        swap_in_bytes_per_second=copy * host_link_bytes_per_second,
        swap_out_both_ways_share=both_ways,
        swap_in_both_ways_share=both_ways,
        copy_latency_seconds=shares.copy_latency_seconds,
        launch_seconds=shares.launch_seconds,
        tiles_at_once=core_count,
        call_seconds=shares.call_seconds,
        pinning_bytes_per_second=shares.pinning_bytes_per_second,
        source=source,
    )
