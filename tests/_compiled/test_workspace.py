"""What cuDNN's convolutions need beside operands and results."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxswap
from jaxswap._compiled.buffers import AssignedValue, Report
from jaxswap._compiled.hlo import Module, parse_module
from jaxswap._compiled.workspace import missing_workspace_bytes

MIB = 2**20
CONVOLUTION = (
    "(bf16[1,16,32,32,32]{4,3,2,1,0}, u8[SCRATCH]{0}) custom-call(%x.1, %k.1), "
    "window={size=3x3x3 pad=1_1x1_1x1_1}, dim_labels=LABELS, "
    'custom_call_target="__cudnn$convForward"'
)


def module_of(labels: str = "bf012_oi012->bf012", scratch: int = 0) -> Module:
    """A program of one convolution: a MiB of features in, a MiB out."""
    convolution = CONVOLUTION.replace("LABELS", labels).replace("SCRATCH", str(scratch))
    return parse_module(
        f"""HloModule jit_f, is_scheduled=true

ENTRY %main (x.1: bf16[1,16,32,32,32], k.1: bf16[16,16,3,3,3]) -> bf16[16] {{
  %x.1 = bf16[1,16,32,32,32]{{4,3,2,1,0}} parameter(0)
  %k.1 = bf16[16,16,3,3,3]{{4,3,2,1,0}} parameter(1)
  ROOT %conv.1 = {convolution}
}}
"""
    )


def value(name: str, mib: int, first: int, last: int, offset: int = 0) -> AssignedValue:
    slot = ("0", offset * MIB)
    return AssignedValue(name, f"u8[{mib * MIB}]", slot, mib * MIB, first, last)


STEPS = {"x.1": 0, "k.1": 1, "conv.1": 4, "last.1": 9}
KERNEL_BYTES = 16 * 16 * 27 * 2
WORKSPACE_BYTES = 2 * MIB + KERNEL_BYTES


def test_operands_and_result_are_held_once_more_while_it_runs() -> None:
    report = Report((value("conv.1", 1, 4, 9),), STEPS)
    assert missing_workspace_bytes(report, module_of(), MIB) == WORKSPACE_BYTES


def test_only_what_exceeds_the_peak_is_missing() -> None:
    conv, later = value("conv.1", 1, 4, 9), value("last.1", 7, 6, 9, offset=1)
    report = Report((conv, later), STEPS)
    assert missing_workspace_bytes(report, module_of(), 8 * MIB) == 0
    # Three MiB at the convolution, where one is free at the moment of most.
    held = Report((conv, value("held.1", 6, 2, 5, offset=1)), STEPS)
    assert missing_workspace_bytes(held, module_of(), 8 * MIB) == (
        WORKSPACE_BYTES - MIB
    )


def test_what_is_freed_before_the_convolution_does_not_count() -> None:
    freed = value("before.1", 5, 1, 3, offset=1)
    report = Report((value("conv.1", 1, 4, 9), freed), STEPS)
    assert missing_workspace_bytes(report, module_of(), 5 * MIB) == 0


@pytest.mark.parametrize(
    ("labels", "scratch"),
    [
        ("b012f_o012i->b012f", 0),  # channels last
        ("bf01_oi01->bf01", 0),  # two-dimensional
        ("bf012_oi012->bf012", 3 * MIB),  # XLA tuned it, and counts its workspace
    ],
)
def test_nothing_is_missing_where_nothing_is_converted_or_xla_knows(
    labels: str, scratch: int
) -> None:
    report = Report((value("conv.1", 1, 4, 9),), STEPS)
    assert missing_workspace_bytes(report, module_of(labels, scratch), MIB) == 0


def test_without_a_report_nothing_is_added() -> None:
    assert missing_workspace_bytes(Report(), module_of(), 0) == 0


@pytest.mark.parametrize("is_channels_first", [True, False])
def test_evidence_has_the_workspace_of_a_program_for_an_absent_gpu(
    is_channels_first: bool,
) -> None:
    axes = "NCDHW" if is_channels_first else "NDHWC"

    def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
        y = lax.conv_general_dilated(
            x, kernel, (1, 1, 1), "SAME", dimension_numbers=(axes, "DHWIO", axes)
        )
        return jnp.sum(y.astype(jnp.float32) ** 2)

    shape = (1, 16, 32, 32, 32) if is_channels_first else (1, 32, 32, 32, 16)
    seen = jaxswap.inspect(
        jax.grad(loss, (0, 1)),
        jax.ShapeDtypeStruct(shape, jnp.bfloat16),
        jax.ShapeDtypeStruct((3, 3, 3, 16, 16), jnp.bfloat16),
        target="h200",
        compiler_options={"xla_gpu_force_conv_nhwc": not is_channels_first},
    )
    total = seen.argument_bytes + seen.output_bytes + seen.temp_bytes
    assert seen.device_bytes == total + seen.workspace_bytes
    if is_channels_first:
        assert seen.workspace_bytes == pytest.approx(2 * MIB, rel=0.02)
        assert "convolution workspace" in str(seen)
    else:
        assert seen.workspace_bytes == 0
