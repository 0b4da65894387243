"""What XLA made of a program: its memory, its copies, and its buffers at the peak.

`inspect` compiles a function for a GPU, which need not be in this machine, and reads
the compiled program. Nothing is run. Bytes are XLA's own. Overlap is read from the
schedule: a copy that overlaps an operation is not always hidden in time.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._compiled.buffers import (
    Buffer,
    describe_buffers,
    find_peak,
    read_report,
)
from jaxswap._compiled.collectives import Collective, find_collectives, summarize
from jaxswap._compiled.copies import Copy, find_copies
from jaxswap._compiled.hlo import parse_module
from jaxswap._compiled.labels import DUMPED_PASSES, trace_labels
from jaxswap._compiled.workspace import missing_workspace_bytes
from jaxswap._device.resolve import default_device, find_target
from jaxswap._device.topology import (
    as_default,
    is_array,
    memory_kind,
    place_on,
    target_mesh,
)
from jaxswap._gpu.target import Target
from jaxswap._jit import Jitted

_STRICT_OPTION = "xla_disable_automatic_host_compute_offload"


@dataclass(frozen=True)
class Evidence:
    """What a compiled program does with memory.

    Attributes:
        target: The GPU it was compiled for.
        argument_bytes: Device memory of the arguments.
        output_bytes: Device memory of the results.
        alias_bytes: Results that take the place of donated arguments.
        temp_bytes: Device memory of everything in between.
        host_bytes: Pinned host memory: swapped values, pinned arguments and results.
        copies: Every copy between device and host, in the order of the program text.
            Each has `direction` (`"to_host"` or `"to_device"`), `nbytes` of one
            execution, `repeats`, `label`, `heavy` (names of the heavy operations that
            it overlaps) and `is_exposed`.
        at_peak: Temporaries alive when most device memory is in use, largest first.
            Each has `nbytes`, `label`, `array` (type and sizes), `opcode` and
            `source`. The sum of their bytes is `temp_bytes`, except for alignment and
            gaps between buffers. Empty if XLA did not report them.
        workspace_bytes: What workspaces of convolutions add to the peak, where XLA did
            not know them: it compiled for a GPU that is not there. cuDNN converts
            three-dimensional features that are stored channels first.
        collectives: What devices send to one another, if the arguments are split over a
            mesh. The other numbers are then those of one device.
        compile_seconds: Time that XLA took.
        hlo_text: The compiled program.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> x = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
        >>> seen = jaxswap.inspect(jax.grad(lambda x: (x @ x).sum()), x, target="h100")
        >>> parts = seen.argument_bytes + seen.output_bytes + seen.temp_bytes
        >>> seen.device_bytes == parts
        True
        >>> largest = max((buffer.nbytes for buffer in seen.at_peak), default=0)
    """

    target: str
    argument_bytes: int
    output_bytes: int
    alias_bytes: int
    temp_bytes: int
    host_bytes: int
    copies: tuple[Copy, ...]
    at_peak: tuple[Buffer, ...]
    workspace_bytes: int = 0
    collectives: tuple[Collective, ...] = ()
    compile_seconds: float = field(default=0.0, compare=False)
    hlo_text: str = field(default="", repr=False, compare=False)

    @property
    def device_bytes(self) -> int:
        """Device memory: arguments, results, temporaries and missing workspace."""
        made = self.output_bytes + self.temp_bytes + self.workspace_bytes
        return self.argument_bytes + made - self.alias_bytes

    @property
    def fragmented_bytes(self) -> int:
        """Temporary memory that nothing uses at the peak: gaps between buffers."""
        occupied = sum(buffer.nbytes for buffer in self.at_peak)
        return max(0, self.temp_bytes - occupied) if self.at_peak else 0

    @property
    def exposed_copies(self) -> tuple[Copy, ...]:
        """Copies that no heavy operation can hide."""
        return tuple(copy for copy in self.copies if copy.is_exposed)

    @property
    def swapped_bytes(self) -> int:
        """Bytes copied in one execution, both directions together."""
        return sum(copy.total_bytes for copy in self.copies)

    @property
    def exposed_bytes(self) -> int:
        """Bytes of the exposed copies."""
        return sum(copy.total_bytes for copy in self.exposed_copies)

    @property
    def hidden_fraction(self) -> float:
        """Share of copied bytes that overlap heavy operations. 1 if none is copied."""
        swapped = self.swapped_bytes
        return 1.0 - self.exposed_bytes / swapped if swapped else 1.0

    def __repr__(self) -> str:
        """Write the main numbers on one line."""
        return (
            f"Evidence(target={self.target!r}, "
            f"device_bytes={self.device_bytes}, host_bytes={self.host_bytes}, "
            f"copies={len(self.copies)}, exposed_copies={len(self.exposed_copies)})"
        )

    def __str__(self) -> str:
        """Write a table for people."""
        lines = (_memory_lines, _copy_lines, _collective_lines, _peak_lines)
        return "\n".join(line for write in lines for line in write(self))


def inspect(
    fn: Callable[..., Any],
    *args: Any,
    target: str | os.PathLike[str] | Target | None = None,
    compiler_options: Mapping[str, Any] | None = None,
    strict: bool = False,
    **kwargs: Any,
) -> Evidence:
    """Compile a function and report what the compiled program does with memory.

    Kernels in Pallas are written for `target`. Inside of `jax.shard_map` they take the
    device of its mesh. So leave `mesh` out there, and call `inspect` with the mesh set
    by `jax.set_mesh`, which is replaced by one of imitated GPUs.

    Args:
        fn: The function. If it is already jitted, its donated and static arguments are
            respected.
        *args: Its arguments: arrays, `jax.ShapeDtypeStruct` or pytrees of them. Leaves
            that are no arrays are static, unless `fn` is jitted. An array sharded over
            a mesh is sharded in the same way over as many imitated GPUs. The numbers
            are those of one of them.
        target: The GPU, as `jaxswap.find_target` finds it. It need not be in this
            machine. None compiles for JAX's default device. On CPU, host and device
            memory are one, so a program shows no copies.
        compiler_options: Options for XLA, as `jax.stages.Lowered.compile` takes them.
            On GPUs they are added to those of `jaxswap.compiler_options`, and win
            over them. Only what `jax.jit` made is compiled with these options alone,
            as it is when it is called.
        strict: Let XLA refuse a program in which it would compute on the host by
            itself. It does so if an operation reads a swapped value before that value
            is back on the device.
        **kwargs: Further arguments of `fn`.

    Returns:
        The evidence.

    Raises:
        ImportError: If `target` is given and JAX's CUDA plugin is not installed.
        ValueError: If `target` is not known, or its plugin cannot compile for it.
        NotImplementedError: If `strict` is set and XLA has no such option.
        PermissionError: If XLA's temporary files cannot be written.
        jax.errors.JaxRuntimeError: If XLA cannot compile the program.

    Example:
        >>> x = jax.ShapeDtypeStruct((256, 256), "float32")
        >>> seen = inspect(lambda x: (x @ x).sum(), x, target="h100")
        >>> seen.argument_bytes, seen.host_bytes, seen.copies
        (262144, 0, ())
    """
    gpu = None if target is None else find_target(target)
    lowered, options = _lower_for(gpu, fn, args, kwargs)
    options |= compiler_options or {}
    if strict:
        options[_STRICT_OPTION] = True
    with tempfile.TemporaryDirectory(prefix="jaxswap-") as folder:
        options |= {
            "xla_dump_to": folder,
            "xla_dump_hlo_as_text": True,
            "xla_dump_hlo_pass_re": DUMPED_PASSES,
        }
        start = time.perf_counter()
        compiled = _compile(lowered, options)
        compile_seconds = time.perf_counter() - start
        text = compiled.as_text() or ""
        module = parse_module(text)
        report = read_report(Path(folder), module)
        labels = trace_labels(Path(folder), module.name)
    memory: Any = compiled.memory_analysis()
    copies = find_copies(module, labels)
    labels = {copy.name: copy.label for copy in copies}
    return Evidence(
        target=gpu.name if gpu else jax.devices()[0].device_kind,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        alias_bytes=memory.alias_size_in_bytes,
        temp_bytes=memory.temp_size_in_bytes,
        host_bytes=memory.host_temp_size_in_bytes
        + memory.host_argument_size_in_bytes
        + memory.host_output_size_in_bytes
        - memory.host_alias_size_in_bytes,
        copies=copies,
        workspace_bytes=missing_workspace_bytes(
            report, module, memory.temp_size_in_bytes
        ),
        at_peak=describe_buffers(
            find_peak(report.temporaries), report.temporaries, module, labels
        ),
        collectives=find_collectives(module),
        compile_seconds=compile_seconds,
        hlo_text=text,
    )


def _lower_for(
    gpu: Target | None,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[jax.stages.Lowered, dict[str, Any]]:
    """Lower `fn` for a GPU or the default device; also return XLA's options for it."""
    if gpu is None:
        return _lower(fn, args, kwargs, is_for_gpu=default_device().platform == "gpu")
    args, kwargs = place_on(gpu, (args, kwargs))
    with _context_of(gpu, (args, kwargs)):
        return _lower(fn, args, kwargs, is_for_gpu=True)


def _context_of(gpu: Target, placed: Any) -> AbstractContextManager[Any]:
    """Return the mesh in which a program of arguments on a GPU is lowered."""
    around = _mesh_around()
    if around is not None:
        return jax.set_mesh(target_mesh(gpu, like=around))
    arrays = [leaf for leaf in jax.tree.leaves(placed) if is_array(leaf)]
    if arrays and all(map(memory_kind, arrays)):
        # The types of host arrays name no devices.
        return jax.set_mesh(target_mesh(gpu, like=arrays[0].sharding.mesh))
    return as_default(gpu)


def _mesh_around() -> Mesh | None:
    """Return the mesh that `jax.set_mesh` set. None also while `jax.jit` traces."""
    try:
        around = jax.sharding.get_mesh()
    except ValueError:
        return None
    return None if around.empty else around


def _lower(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    is_for_gpu: bool,
) -> tuple[jax.stages.Lowered, dict[str, Any]]:
    """Lower `fn`. What is no array is static, unless `fn` is jitted and decides."""
    if isinstance(fn, jax.stages.Wrapped) and not isinstance(fn, Jitted):
        jitted: Any = fn
        return jitted.lower(*args, **kwargs), {}
    if not isinstance(fn, Jitted):
        fn, args, kwargs = _without_static(fn, args, kwargs)
        fn = Jitted(fn, {})
    traced = fn.bare.trace(*args, **kwargs)
    return traced.lower(), fn.options(traced, is_for_gpu=is_for_gpu)


def _without_static(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return a function of the arrays among the arguments, and its arguments."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    if all(map(is_array, leaves)):
        return fn, args, kwargs
    arrays = [leaf if is_array(leaf) else None for leaf in leaves]

    def program(arrays: list[Any]) -> Any:
        filled = [
            static if array is None else array
            for array, static in zip(arrays, leaves, strict=True)
        ]
        inner_args, inner_kwargs = jax.tree.unflatten(structure, filled)
        return fn(*inner_args, **inner_kwargs)

    return program, (arrays,), {}


def _compile(
    lowered: jax.stages.Lowered, options: dict[str, Any]
) -> jax.stages.Compiled:
    try:
        return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        if "Unable to write" in str(error):
            raise PermissionError(
                "XLA cannot write its temporary files. Let the environment variable "
                f"TMPDIR name a folder that can be written. XLA says: {error}"
            ) from error
        if f"No such compile option: '{_STRICT_OPTION}'" not in str(error):
            raise
        raise NotImplementedError(
            f"`strict` needs XLA's option `{_STRICT_OPTION}`, which the installed "
            "version does not have: leave `strict` out, or install a newer JAX."
        ) from error


_SHOWN = 10


def _memory_lines(seen: Evidence) -> list[str]:
    rows = [
        ("arguments", seen.argument_bytes),
        ("results", seen.output_bytes),
        ("temporaries", seen.temp_bytes),
        ("convolution workspace", seen.workspace_bytes),
        ("aliased", -seen.alias_bytes),
        ("device memory", seen.device_bytes),
        ("pinned host memory", seen.host_bytes),
    ]
    compiled = format_seconds(seen.compile_seconds)
    lines = [f"compiled for {seen.target} in {compiled}"]
    lines += [f"  {name:<21} {format_bytes(nbytes):>10}" for name, nbytes in rows]
    return lines


def _copy_lines(seen: Evidence) -> list[str]:
    if not seen.copies:
        return ["no copies between device and host"]
    lines = [
        f"{len(seen.copies)} copies between device and host, "
        f"{format_bytes(seen.swapped_bytes)}; {len(seen.exposed_copies)} exposed, "
        f"{format_bytes(seen.exposed_bytes)}; {seen.hidden_fraction:.0%} of the bytes "
        "overlap heavy operations"
    ]
    shown = sorted(
        seen.copies, key=lambda copy: (not copy.is_exposed, -copy.total_bytes)
    )
    for copy in shown[:_SHOWN]:
        times = f" x {copy.repeats}" if copy.in_loop else ""
        overlap = f"overlaps {len(copy.heavy)}" if copy.heavy else "exposed"
        direction = copy.direction.replace("_", " ")
        size = format_bytes(copy.nbytes) + times
        lines.append(f"  {direction:<9} {size:>14}  {overlap:<11}  {copy.label}")
    return lines + _remainder(len(shown))


def _collective_lines(seen: Evidence) -> list[str]:
    return [
        f"{count} {kind}, {format_bytes(nbytes)}"
        for kind, (count, nbytes) in summarize(seen.collectives).items()
    ]


def _peak_lines(seen: Evidence) -> list[str]:
    if not seen.at_peak:
        return []
    alive = format_bytes(sum(buffer.nbytes for buffer in seen.at_peak))
    temporaries = format_bytes(seen.temp_bytes)
    lines = [f"at the peak {alive} of the {temporaries} of temporaries are alive"]
    for buffer in seen.at_peak[:_SHOWN]:
        size = format_bytes(buffer.nbytes)
        lines.append(
            f"  {size:>10}  {buffer.array:<24}  {buffer.opcode:<12}  {buffer.label}"
        )
    return lines + _remainder(len(seen.at_peak))


def _remainder(count: int) -> list[str]:
    return [f"  and {count - _SHOWN} more"] if count > _SHOWN else []
