"""The kinds of arithmetic that a GPU computes at different rates."""

import enum


class Work(enum.StrEnum):
    """A kind of product, and the number type in which it is computed.

    The gradient of a convolution's kernel is a kind of its own: it sums over voxels.
    `jaxswap.Rates` has a rate for each kind.
    """

    BF16_MATMUL = "bf16_matmul"
    TF32_MATMUL = "tf32_matmul"
    FP32_MATMUL = "fp32_matmul"
    BF16_CONVOLUTION = "bf16_convolution"
    TF32_CONVOLUTION = "tf32_convolution"
    FP32_CONVOLUTION = "fp32_convolution"
    BF16_KERNEL_GRADIENT = "bf16_kernel_gradient"
    TF32_KERNEL_GRADIENT = "tf32_kernel_gradient"
    FP32_KERNEL_GRADIENT = "fp32_kernel_gradient"
