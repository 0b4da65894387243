"""The built-in GPUs: published numbers, each with its source.

Sources. [xla]: the target configuration of that GPU in openxla/xla,
`xla/backends/gpu/target_config/specs/*.txtpb`, as XLA's own device query reports it.
[nv]: NVIDIA's product data sheet. [ampere] and [ada]: its architecture white papers of
GA102 and AD102. [cuda]: the compute-capability table of the CUDA C programming guide.
[smi]: the total memory that `nvidia-smi` reports. The FLOP/s of [ampere] and [ada] are
quoted from other publications. Their fp32 rates agree with lanes times clock.
FLOP/s are dense (no structured sparsity) with fp32 accumulation. Host links are
theoretical: 16 lanes of PCIe 4.0 carry 31.5e9 bytes/s each way, and 16 lanes of PCIe
5.0 carry 63e9 (PCI-SIG, after 128b/130b encoding).
"""

from typing import Any

_PCIE4_BYTES_PER_SECOND = 31.5e9
_PCIE5_BYTES_PER_SECOND = 63.0e9
_MIB = 2**20

# The fields of one `Target`.
_Numbers = dict[str, Any]


def _ampere_a100(
    name: str, device_name: str, memory_bytes: int, memory_bytes_per_second: float
) -> _Numbers:
    return dict(
        name=name,
        device_name=device_name,
        compute_capability=(8, 0),
        memory_bytes=memory_bytes,
        memory_bytes_per_second=memory_bytes_per_second,
        host_link_bytes_per_second=_PCIE4_BYTES_PER_SECOND,  # [nv]
        l2_cache_bytes=41943040,  # [xla], and the rest of this block
        core_count=108,
        clock_hertz=1.41e9,
        fpus_per_core=64,
        threads_per_core=2048,
        shared_memory_per_core_bytes=167936,
        shared_memory_per_block_bytes=166912,
        bf16_flops_per_second=312e12,  # [nv], and the next two
        tf32_flops_per_second=156e12,
        fp32_flops_per_second=19.5e12,
    )


def _hopper(
    name: str,
    device_name: str,
    memory_bytes: int,
    memory_bytes_per_second: float,
    host_link_bytes_per_second: float,
) -> _Numbers:
    return dict(
        name=name,
        device_name=device_name,
        compute_capability=(9, 0),
        architecture_specific=True,
        memory_bytes=memory_bytes,
        memory_bytes_per_second=memory_bytes_per_second,
        host_link_bytes_per_second=host_link_bytes_per_second,
        l2_cache_bytes=52428800,  # [xla], and the rest of this block
        core_count=132,
        clock_hertz=1.98e9,
        fpus_per_core=128,
        threads_per_core=2048,
        shared_memory_per_core_bytes=233472,
        shared_memory_per_block_bytes=232448,
        bf16_flops_per_second=989e12,  # [nv], SXM, and the next two
        tf32_flops_per_second=494e12,
        fp32_flops_per_second=67e12,
    )


def _without_double_precision(
    name: str,
    device_name: str,
    compute_capability: tuple[int, int],
    memory_bytes: int,
    memory_bytes_per_second: float,
    l2_cache_bytes: int,
    core_count: int,
    clock_hertz: float,
    tflops: tuple[float, float, float],
) -> _Numbers:
    """Describe GA102, AD102 and AD104: workstation, consumer and inference cards."""
    bf16, tf32, fp32 = tflops
    return dict(
        name=name,
        device_name=device_name,
        compute_capability=compute_capability,
        memory_bytes=memory_bytes,
        memory_bytes_per_second=memory_bytes_per_second,
        host_link_bytes_per_second=_PCIE4_BYTES_PER_SECOND,  # [nv]
        l2_cache_bytes=l2_cache_bytes,
        core_count=core_count,
        clock_hertz=clock_hertz,
        fpus_per_core=128,  # [cuda], and the next three
        threads_per_core=1536,
        shared_memory_per_core_bytes=102400,
        shared_memory_per_block_bytes=101376,
        bf16_flops_per_second=bf16 * 1e12,
        tf32_flops_per_second=tf32 * 1e12,
        fp32_flops_per_second=fp32 * 1e12,
    )


BUILT_IN: tuple[_Numbers, ...] = (
    # Memory and bandwidth [xla].
    _ampere_a100("a100-40", "NVIDIA A100-SXM4-40GB", 42331013120, 1555.2e9),
    _ampere_a100("a100-80", "NVIDIA A100-SXM4-80GB", 85100068864, 2039.04e9),
    # Memory [xla]. Bandwidth [nv]: 1935 GB/s; [xla] repeats the SXM4 card's there.
    _ampere_a100("a100-pcie-80", "NVIDIA A100 80GB PCIe", 79050250240, 1935e9),
    # Memory and bandwidth [xla]; PCIe 5.0 x16 [nv].
    _hopper(
        "h100",
        "NVIDIA H100 80GB HBM3",
        84942979072,
        3352.32e9,
        _PCIE5_BYTES_PER_SECOND,
    ),
    _hopper("h200", "NVIDIA H200", 151397597184, 4800e9, _PCIE5_BYTES_PER_SECOND),
    # [nv] Grace Hopper Superchip: 96 GB HBM3 at 4 TB/s; NVLink-C2C has 900 GB/s in both
    # directions together. The GPU itself is the H100's.
    _hopper("gh200", "NVIDIA GH200 480GB", 96 * 10**9, 4000e9, 450e9),
    dict(
        name="b200",
        device_name="NVIDIA B200",
        compute_capability=(10, 0),
        architecture_specific=True,
        memory_bytes=191514411008,  # [xla]
        memory_bytes_per_second=7672.32e9,  # [xla]
        host_link_bytes_per_second=_PCIE5_BYTES_PER_SECOND,  # [xla] has 64 GiB/s
        l2_cache_bytes=132644864,  # [xla], and the rest of this block
        core_count=148,
        clock_hertz=1.965e9,
        fpus_per_core=128,
        threads_per_core=2048,
        shared_memory_per_core_bytes=233472,
        shared_memory_per_block_bytes=232448,
        bf16_flops_per_second=2250e12,  # [nv] HGX B200, one of eight
        tf32_flops_per_second=1125e12,  # half of that; [nv] rounds it to 1100
        fp32_flops_per_second=75e12,
    ),
    # [xla], except the FLOP/s, which are [ampere].
    _without_double_precision(
        "a6000",
        "NVIDIA RTX A6000",
        (8, 6),
        51041271808,
        768.096e9,
        6291456,
        84,
        1.8e9,
        (154.8, 77.4, 38.7),
    ),
    # [ampere]; memory [smi].
    _without_double_precision(
        "rtx3090",
        "NVIDIA GeForce RTX 3090",
        (8, 6),
        24576 * _MIB,
        936.2e9,
        6291456,
        82,
        1.695e9,
        (71.0, 35.6, 35.6),
    ),
    # [ada]; memory [smi].
    _without_double_precision(
        "rtx4090",
        "NVIDIA GeForce RTX 4090",
        (8, 9),
        24564 * _MIB,
        1008e9,
        72 * _MIB,
        128,
        2.52e9,
        (165.2, 82.6, 82.6),
    ),
    # [nv]; cores, clock and cache [ada]; memory [smi].
    _without_double_precision(
        "l4",
        "NVIDIA L4",
        (8, 9),
        23034 * _MIB,
        300e9,
        48 * _MIB,
        58,
        2.04e9,
        (121.0, 60.0, 30.3),
    ),
    _without_double_precision(
        "l40s",
        "NVIDIA L40S",
        (8, 9),
        46068 * _MIB,
        864e9,
        96 * _MIB,
        142,
        2.52e9,
        (362.05, 183.0, 91.6),
    ),
)
