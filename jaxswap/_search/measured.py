"""What was read from the compiled program of a draft."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Bytes of a compiled program.

    Attributes:
        device_bytes: Arguments, results and temporaries.
        temp_bytes: The temporaries among them.
        fragmented_bytes: Gaps between buffers among the temporaries, at the peak.
        host_bytes: Pinned host memory.
        swapped_bytes: Bytes copied between device and host in one step, both ways.
        exposed_bytes: The swapped bytes whose copies overlap no heavy operation.
        exposed_returns: Labels of the copies back to the device that overlap none.
    """

    device_bytes: int
    temp_bytes: int
    host_bytes: int
    swapped_bytes: int
    exposed_bytes: int
    fragmented_bytes: int = 0
    exposed_returns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled(Measured):
    """What XLA made of a plan, and what was predicted.

    Attributes:
        predicted_device_bytes: Device memory that was predicted before the compilation.
        compile_count: How many programs were compiled until the plan was found.
    """

    predicted_device_bytes: int
    compile_count: int


def compiled_of(measured: Measured, predicted_bytes: int, count: int) -> Compiled:
    """Add to a compiled program what was predicted for it."""
    return Compiled(
        **dataclasses.asdict(measured),
        predicted_device_bytes=predicted_bytes,
        compile_count=count,
    )
