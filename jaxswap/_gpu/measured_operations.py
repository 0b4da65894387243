"""Operations that were timed one by one, by GPU; used where nobody calibrated.

Source: `benchmarks/results/device-nvidia-h200.jsonl`, table `convolutions_nhwc`, code
and features channels last: convolutions of 3x3x3 voxels in bf16, forward, gradient of
the input and of the kernel. The names are those of `jaxswap._trace.operations`. No JAX
here.
"""

_FINEST = "bfloat16[1,192,192,192,16]"
_SECOND = "bfloat16[1,96,96,96,32]"
_FINEST_KERNEL = "bfloat16[3,3,3,16,16]"
_SECOND_KERNEL = "bfloat16[3,3,3,32,32]"

_FORWARD, _INPUT, _KERNEL = "b1fb49416d02", "dfd205895846", "1c55f2794927"
"""What the parameters of the three passes come to in a name."""


def _passes(
    features: str, kernel: str, seconds: tuple[float, float, float]
) -> tuple[tuple[str, float], ...]:
    convolution = f"conv_general_dilated {features}"
    forward, input_gradient, kernel_gradient = seconds
    return (
        (f"{convolution} {kernel} {features} {_FORWARD}", forward),
        (f"{convolution} {kernel} {features} {_INPUT}", input_gradient),
        (f"{convolution} {features} {kernel} {_KERNEL}", kernel_gradient),
    )


MEASURED_OPERATIONS: dict[str, tuple[tuple[str, float], ...]] = {
    "NVIDIA H200": (
        *_passes(_FINEST, _FINEST_KERNEL, (1.563e-3, 1.625e-3, 1.42e-3)),
        *_passes(_SECOND, _SECOND_KERNEL, (0.221e-3, 0.218e-3, 0.336e-3)),
    )
}
"""Name and seconds of operations, by what the driver calls the GPU."""
