"""The numbers of a GPU: enough to compile for it and to predict time on it.

In comes a name or a `Target`, out comes a `Target`, and from it the text proto that
XLA reads to compile for a GPU that is not there. No JAX here.

Sources. [xla] is the target configuration of that GPU in openxla/xla,
`xla/backends/gpu/target_config/specs/*.txtpb`, as XLA's own device query reports it.
[nv] is NVIDIA's product data sheet, [ampere] its GA102 and [ada] its AD102
architecture white paper, [cuda] the compute-capability table of the CUDA C
programming guide, [smi] the memory total that `nvidia-smi` reports. FLOP/s are dense
(no structured sparsity) with fp32 accumulation. Host links are theoretical: 16 lanes of
PCIe 4.0 carry 31.5e9 bytes/s each way and of PCIe 5.0 63e9 (PCI-SIG, after 128b/130b
encoding); pinned copies usually reach 75 to 90 % of that.
"""

import re
from dataclasses import dataclass

_PCIE4_BYTES_PER_SECOND = 31.5e9
_PCIE5_BYTES_PER_SECOND = 63.0e9


@dataclass(frozen=True, kw_only=True)
class Target:
    """A GPU as numbers.

    Attributes:
      name: short name, as `find_target` takes it.
      device_name: the name the driver reports.
      compute_capability: major and minor number of the CUDA architecture.
      architecture_specific: compile with the architecture-specific instructions
        (`sm_90a`, `sm_100a`).
      memory_bytes: device memory.
      memory_bytes_per_second: peak bandwidth of device memory.
      host_link_bytes_per_second: peak bandwidth to and from host memory, each way.
      l2_cache_bytes: size of the last cache.
      core_count: streaming multiprocessors.
      clock_hertz: boost clock.
      fpus_per_core: fp32 lanes of one multiprocessor.
      threads_per_core: resident threads of one multiprocessor.
      shared_memory_per_core_bytes: shared memory of one multiprocessor.
      shared_memory_per_block_bytes: most that one block may ask for.
      bf16_flops_per_second: peak of matrix units with 16-bit inputs.
      tf32_flops_per_second: peak of matrix units with fp32 inputs.
      fp32_flops_per_second: peak of the ordinary fp32 units.

    Example:
      >>> import dataclasses
      >>> slow_link = dataclasses.replace(
      ...     find_target("h100"), name="h100-pcie4", host_link_bytes_per_second=25e9)
    """

    name: str
    device_name: str
    compute_capability: tuple[int, int]
    architecture_specific: bool = False
    memory_bytes: int
    memory_bytes_per_second: float
    host_link_bytes_per_second: float
    l2_cache_bytes: int
    core_count: int
    clock_hertz: float
    fpus_per_core: int
    threads_per_core: int
    shared_memory_per_core_bytes: int
    shared_memory_per_block_bytes: int
    bf16_flops_per_second: float
    tf32_flops_per_second: float
    fp32_flops_per_second: float

    def to_text_proto(self) -> str:
        """Write the `GpuTargetConfigProto` that XLA compiles for.

        Only long-standing fields are written: one unknown field makes a plugin refuse
        the whole text.

        Returns:
          The text form of the proto.
        """
        major, minor = self.compute_capability
        feature = "ACCELERATED_FEATURES" if self.architecture_specific else "NONE"
        return _TEXT_PROTO.format(
            target=self,
            major=major,
            minor=minor,
            feature=feature,
            suffix="a" if self.architecture_specific else "",
            clock_ghz=self.clock_hertz / 1e9,
            memory_bytes_per_second=int(self.memory_bytes_per_second),
            host_link_bytes_per_second=int(self.host_link_bytes_per_second),
        )


def find_target(target: str | Target) -> Target:
    """Look up a GPU by name.

    Args:
      target: a name from `target_names()`, in any case and with or without
        separators (`"A100_80"`, `"a100-80"`, `"a10080"` are one), or a `Target`, which
        is returned as it is.

    Returns:
      The GPU's numbers.

    Raises:
      ValueError: if no GPU has that name; the text lists those that do.

    Example:
      >>> find_target("H100").core_count
      132
    """
    if isinstance(target, Target):
        return target
    found = _BY_KEY.get(_key(target)) if isinstance(target, str) else None
    if found is None:
        raise ValueError(
            f"`target` is {target!r}, which is not a known GPU; choose one of "
            f"{', '.join(target_names())}, or describe yours with `jaxswap.Target`."
        )
    return found


def target_names() -> tuple[str, ...]:
    """List the names that `find_target` knows.

    Returns:
      The names, in alphabetical order.
    """
    return tuple(sorted(known.name for known in _BY_KEY.values()))


_TEXT_PROTO = """\
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {target.shared_memory_per_core_bytes}
  shared_memory_per_block_optin: {target.shared_memory_per_block_bytes}
  threads_per_core_limit: {target.threads_per_core}
  core_count: {target.core_count}
  fpus_per_core: {target.fpus_per_core}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: {memory_bytes_per_second}
  l2_cache_size: {target.l2_cache_bytes}
  clock_rate_ghz: {clock_ghz}
  device_memory_size: {target.memory_bytes}
  cuda_compute_capability {{
    major: {major}
    minor: {minor}
    feature_extension: {feature}
  }}
  device_vendor: "NVIDIA Corporation"
  platform_version: "Compute Capability {major}.{minor}{suffix}"
  device_address_bits: 64
  pcie_bandwidth: {host_link_bytes_per_second}
  name: "{target.device_name}"
  driver_version: "13.0.0"
  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{
  major: 9
  minor: 10
}}
device_description_str: "{target.device_name}"
"""


def _ampere_a100(
    name: str, device_name: str, memory_bytes: int, memory_bytes_per_second: float
) -> Target:
    return Target(
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
) -> Target:
    return Target(
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
) -> Target:
    """GA102, AD102 and AD104: workstation, consumer and inference cards."""
    bf16, tf32, fp32 = tflops
    return Target(
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


_MIB = 2**20

_BUILT_IN = (
    # Memory and bandwidth [xla].
    _ampere_a100("a100-40", "NVIDIA A100-SXM4-40GB", 42331013120, 1555.2e9),
    _ampere_a100("a100-80", "NVIDIA A100-SXM4-80GB", 85100068864, 2039.04e9),
    # Memory [xla]; bandwidth [nv]: 1935 GB/s, where [xla] repeats the SXM4 card's.
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
    # [nv] Grace Hopper Superchip: 96 GB HBM3 at 4 TB/s, NVLink-C2C 900 GB/s both ways
    # together. The GPU is the H100's.
    _hopper("gh200", "NVIDIA GH200 480GB", 96 * 10**9, 4000e9, 450e9),
    Target(
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
        tf32_flops_per_second=1125e12,
        fp32_flops_per_second=75e12,
    ),
    # [xla] but FLOP/s, which are [ampere].
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


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_BY_KEY = {_key(known.name): known for known in _BUILT_IN}
