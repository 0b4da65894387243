"""Programs that once failed, made small; see `program_generator`."""

from program_generator import Program, Step

REGRESSIONS = {
    # JAX 0.10 kept the zero cotangent of a host array in host memory.
    "second gradient, swapped product of constants": Program(
        ["float32[]"],
        [Step("batched_product"), Step("batched_product")],
        ending="all",
        outside="grad_of_grad",
        policy="lms",
    ),
    "second gradient, swapped complex numbers": Program(
        ["bfloat16[2,3]"],
        [Step("through_complex")],
        ending="all",
        outside="grad_of_grad",
    ),
    # JAX 0.10 refuses a `cond` whose predicate has a tangent, be it of no numbers.
    "second gradient, recomputed predicate": Program(
        ["float32[3]"],
        [Step("cond", body=[Step("batched_product")])],
        outside="grad_of_grad",
        policy="recompute",
    ),
    # The first product waited for a cotangent, which only the backward pass has.
    "product of constants before all others": Program(
        ["float32[]"],
        [
            Step("gradient_inside", body=[Step("gather", x=1)]),
            Step("gram"),
            Step("matmul"),
        ],
    ),
}
