"""A profile in the form of XLA's GPU tracer, and the compiled program it is of.

It was written after the form of `xla/backends/profiler/gpu/cupti_collector.cc`, not
recorded. Names of kernels and copies are those of profiles that were recorded on an
H200 with JAX 0.11.2. Two steps of 10 ms, the second with a stall of 1 ms:

    compute   convolution 0-4, copy within the device 4-5, fusion 5-9 (10)
    swap-out  3-6
    swap-in   5-7, in the second step 9-10, before the last fusion
"""

from collections.abc import Iterator
from typing import Any

import jax

from jaxswap._profiled.streams import MARK

PROGRAM = """HloModule jit_step, is_scheduled=true

%computation (p: f32[256]) -> f32[256] {
  %p = f32[256]{0} parameter(0)
  ROOT %t = f32[256]{0} tanh(%p)
}

ENTRY %main (x: f32[256]) -> f32[256] {
  %x = f32[256]{0} parameter(0)
  %conv = f32[256]{0} custom-call(%x), custom_call_target="__cudnn$convForward", metadata={op_name="jit(step)/jvp(Net)/encoder0/conv" source_file="net.py" source_line=7}
  %copy-start.1 = (f32[256]{0:S(5)}, f32[256]{0}, u32[]) copy-start(%conv), metadata={op_name="jit(step)/jvp(swap_out(encoder0/conv))/device_put"}
  %copy-done.1 = f32[256]{0:S(5)} copy-done(%copy-start.1)
  %copy-start.2 = (f32[256]{0}, f32[256]{0:S(5)}, u32[]) copy-start(%copy-done.1), metadata={op_name="jit(step)/transpose(jvp(swap_in(encoder0/conv)))/device_put"}
  %copy-done.2 = f32[256]{0} copy-done(%copy-start.2)
  ROOT %loop_tanh_fusion.2 = f32[256]{0} fusion(%copy-done.2), kind=kLoop, calls=%computation, metadata={op_name="jit(step)/jvp(Net)/tanh" source_file="net.py" source_line=9}
}
"""  # noqa: E501

MS = 10**9  # picoseconds
STATS = ("hlo_op", "hlo_module", "memcpy_details", "kernel_details")
CONVOLUTION = "sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc"
OUT = "kind_src:device kind_dst:pinned size:1024 dest:0 async:1"
IN = "kind_src:pinned kind_dst:device size:1024 dest:0 async:1"

# Stream, name, milliseconds of the start in each step, its length, statistics.
Recorded = tuple[int, str, tuple[float, float], float, dict[str, str]]
EVENTS: tuple[Recorded, ...] = (
    (16, CONVOLUTION, (0, 0), 4, {"hlo_op": "conv", "kernel_details": "regs:255"}),
    (16, "MemcpyD2D", (4, 4), 1, {"hlo_op": "copy.3"}),
    (16, "loop_tanh_fusion_2", (5, 5), 4, {}),  # in a CUDA graph: no instruction
    (18, "MemcpyD2H", (3, 3), 3, {"hlo_op": "copy-start.1", "memcpy_details": OUT}),
    (17, "MemcpyH2D", (5, 9), 2, {"hlo_op": "copy-start.2", "memcpy_details": IN}),
)
LINES = {16: "Stream #16(Kernel,MemcpyD2D)", 17: "Stream #17(MemcpyH2D)"}
LINES[18] = "Stream #18(MemcpyD2H)"
STARTS_MS = (100, 120)
"""When the steps are marked; each begins 0.5 ms later on the GPU."""


def gpu_profile() -> list[Any]:
    """Return the planes of the profile, written and read by JAX."""
    text = "\n".join([_host(), _device(), 'planes { id: 3 name: "Task Environment" }'])
    return list(jax.profiler.ProfileData.from_text_proto(text).planes)


def _host() -> str:
    events = [(0, MARK, at, 15.0, {}) for at in STARTS_MS]
    return _plane(1, "/host:CPU", {0: ("python", events)})


def _device() -> str:
    streams: dict[int, tuple[str, list[Any]]] = {
        number: (name, []) for number, name in LINES.items()
    }
    # What ran before and after the steps, and what repeats them, does not count.
    streams[16][1].append((0, "warm_up", 50, 9.0, {}))
    streams[16][1].append((0, "later", 150, 9.0, {}))
    streams[90] = ("XLA Ops", [(0, "conv", STARTS_MS[0] + 0.5, 9.0, {})])
    for number, start in enumerate(STARTS_MS):
        for stream, name, begins, lasts, stats in EVENTS:
            at = start + 0.5 + begins[number]
            streams[stream][1].append((0, name, at, lasts, stats))
    return _plane(2, "/device:GPU:0", streams)


def _plane(number: int, name: str, lines: dict[int, tuple[str, list[Any]]]) -> str:
    names = sorted({event[1] for _, events in lines.values() for event in events})
    parts = [f'planes {{ id: {number} name: "{name}"']
    parts += _metadata("event_metadata", names)
    parts += _metadata("stat_metadata", STATS)
    for line, (line_name, events) in lines.items():
        parts.append(f'lines {{ id: {line} name: "{line_name}"')
        for _, event, at, lasts, stats in events:
            times = f"offset_ps: {int(at * MS)} duration_ps: {int(lasts * MS)}"
            said = " ".join(
                f'stats {{ metadata_id: {STATS.index(k) + 1} str_value: "{v}" }}'
                for k, v in stats.items()
            )
            kind = names.index(event) + 1
            parts.append(f"events {{ metadata_id: {kind} {times} {said} }}")
        parts.append("}")
    return "\n".join([*parts, "}"])


def _metadata(field: str, names: Any) -> Iterator[str]:
    for number, name in enumerate(names, start=1):
        value = f'value {{ id: {number} name: "{name}" }}'
        yield f"{field} {{ key: {number} {value} }}"
