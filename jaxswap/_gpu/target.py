"""The numbers of a GPU: enough to compile for it and to predict time on it.

In comes a name, out comes a `Target`, and from it the text proto that XLA reads to
compile for a GPU that is not there, and the rates that the GPU sustains. No JAX here.
"""

import dataclasses
import math
import re
from dataclasses import dataclass

from jaxswap._gpu.measured_operations import MEASURED_OPERATIONS
from jaxswap._gpu.published import USUAL, Shares, usual_rates
from jaxswap._gpu.rates import Rates, check_operations
from jaxswap._gpu.table import BUILT_IN


@dataclass(frozen=True, kw_only=True)
class Target:
    """A GPU as numbers.

    Attributes:
        name: Short name, as `jaxswap.find_target` takes it.
        device_name: The name the driver reports.
        compute_capability: Major and minor number of the CUDA architecture.
        architecture_specific: Compile with the architecture-specific instructions
            (`sm_90a`, `sm_100a`).
        memory_bytes: Device memory.
        memory_bytes_per_second: Peak bandwidth of device memory.
        host_link_bytes_per_second: Peak bandwidth to and from host memory, each way.
        l2_cache_bytes: Size of the last cache.
        core_count: Streaming multiprocessors.
        clock_hertz: Boost clock.
        fpus_per_core: Fp32 lanes of one multiprocessor.
        threads_per_core: Resident threads of one multiprocessor.
        shared_memory_per_core_bytes: Shared memory of one multiprocessor.
        shared_memory_per_block_bytes: Most that one block may ask for.
        bf16_flops_per_second: Peak of matrix units with 16-bit inputs.
        tf32_flops_per_second: Peak of matrix units with fp32 inputs.
        fp32_flops_per_second: Peak of the ordinary fp32 units.
        rates: Measured by `jaxswap.calibrate`. None: published peaks times the shares
            that are usual.
        operations: Heavy operations that were timed one by one on this GPU: name and
            seconds.

    Raises:
        ValueError: If a number, or the seconds of an operation, is not positive and
            finite; the text names it.

    Example:
        >>> import dataclasses, jaxswap
        >>> h100 = jaxswap.find_target("h100")
        >>> slow_link = dataclasses.replace(
        ...     h100, name="h100-pcie4", host_link_bytes_per_second=25e9)
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
    rates: Rates | None = None
    operations: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        check_operations(self.operations, "Target")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (int, float) and not 0 < value < math.inf:
                raise ValueError(
                    f"`{field.name}` of `Target` is {value!r}: give a positive, finite "
                    "number."
                )
        major, minor = self.compute_capability
        if not (0 < major < 100 and 0 <= minor < 10):
            raise ValueError(
                f"`compute_capability` of `Target` is {self.compute_capability}: give "
                "major and minor number, such as (9, 0)."
            )

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


def built_in_target(name: str) -> Target:
    """Look up a GPU that jaxswap knows by itself.

    Args:
        name: A name from `target_names()`, in any case and with or without separators
            (`"A100_80"`, `"a100-80"`, `"a10080"` are one).

    Returns:
        The GPU's numbers.

    Raises:
        ValueError: If no GPU has that name; the text lists those that do.

    Example:
        >>> built_in_target("H100").core_count
        132
    """
    found = _BY_KEY.get(target_key(name)) if isinstance(name, str) else None
    if found is None:
        raise ValueError(
            f"`target` is {name!r}, which is not a known GPU; choose one of "
            f"{', '.join(target_names())} or one that `jaxswap.calibrate` saved, or "
            "describe yours with `jaxswap.Target`."
        )
    return found


def target_names() -> tuple[str, ...]:
    """List the GPUs that jaxswap knows by itself.

    Returns:
        The names, in alphabetical order.
    """
    return tuple(sorted(known.name for known in _BY_KEY.values()))


def find_device(device_name: str) -> Target | None:
    """Look up a built-in GPU by the name that its driver reports.

    Args:
        device_name: The name, as in `jax.devices()[0].device_kind`.

    Returns:
        The GPU's numbers, or None if it is not built in.

    Example:
        >>> find_device("NVIDIA H200").name
        'h200'
    """
    return next((t for t in _BY_KEY.values() if t.device_name == device_name), None)


def target_key(name: str) -> str:
    """Reduce a name to what its spellings share: small letters and digits.

    Args:
        name: A name of a GPU.

    Returns:
        The same for `"A100_80"`, `"a100-80"` and `"a10080"`.
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def published_rates(target: Target, shares: Shares = USUAL) -> Rates:
    """Estimate what a GPU sustains from its published peaks.

    Args:
        target: The GPU; its own `rates` are not looked at.
        shares: What programs reach of the peaks.

    Returns:
        Its peaks times the shares that such GPUs usually reach.

    Raises:
        ValueError: If a peak is not positive and finite.

    Example:
        >>> published_rates(built_in_target("h100")).is_measured
        False
    """
    return usual_rates(
        bf16_flops_per_second=target.bf16_flops_per_second,
        tf32_flops_per_second=target.tf32_flops_per_second,
        fp32_flops_per_second=target.fp32_flops_per_second,
        memory_bytes_per_second=target.memory_bytes_per_second,
        host_link_bytes_per_second=target.host_link_bytes_per_second,
        core_count=target.core_count,
        is_before_hopper=target.compute_capability < (9, 0),
        source=f"published peaks of {target.device_name}, times usual shares",
        shares=shares,
    )


def rates_of(target: Target) -> Rates:
    """Return the rates to predict time with.

    Args:
        target: The GPU.

    Returns:
        Its measured rates, if it has any, else those that follow from published peaks
        and the operations that were timed on such a GPU elsewhere; with the target's
        own `operations`.

    Raises:
        ValueError: If nothing was measured and a peak is not positive and finite.

    Example:
        >>> rates_of(built_in_target("a100-80")).swap_in_bytes_per_second
        26775000000.0
    """
    rates = target.rates
    if rates is None:
        timed = MEASURED_OPERATIONS.get(target.device_name, ())
        rates = dataclasses.replace(published_rates(target), operations=timed)
    if not target.operations:
        return rates
    known = dict(rates.operations) | dict(target.operations)
    return dataclasses.replace(rates, operations=tuple(sorted(known.items())))


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

_BY_KEY = {
    target_key(target.name): target
    for target in (Target(**numbers) for numbers in BUILT_IN)
}
