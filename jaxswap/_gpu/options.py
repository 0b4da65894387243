"""What XLA must be told about a program on a GPU."""

OVERLAP = "xla_gpu_enable_latency_hiding_scheduler"
"""Order the program so that asynchronous copies run beside computation.

By itself XLA does so for Hopper GPUs and newer only. Without it each copy is waited for
at once.
"""

CHANNELS_LAST = "xla_gpu_force_conv_nhwc"
"""Store the features of convolutions channels last, as cuDNN computes on them.

By itself XLA stores three-dimensional features channels first, and cuDNN converts the
operands and the result of each convolution in a workspace of their size.
"""


def gpu_options(*, has_volumes: bool) -> dict[str, bool]:
    """Return the options that a program needs.

    Two-dimensional convolutions are left to XLA: in 16-bit types it stores their
    features channels last by itself, in float32 on newer GPUs.

    Args:
        has_volumes: Whether the program has three-dimensional convolutions.
    """
    return {OVERLAP: True, CHANNELS_LAST: True} if has_volumes else {OVERLAP: True}
