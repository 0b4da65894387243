"""What cuDNN's convolutions need beside operands and results.

cuDNN's kernels want features channels last. A three-dimensional convolution whose
features are stored channels first therefore converts its operands and its result in a
workspace of their size (measured on an H200, 2026-11-28: exactly that, 16-bit and fp32,
forward and both gradients). XLA learns of the workspace when it tunes the convolution
on the GPU. A program that is compiled for a GPU that is not there has none yet, so it
is added here. No JAX here.
"""

from collections.abc import Iterable, Mapping

from jaxswap._compiled.buffers import Report, occupancy
from jaxswap._compiled.hlo import Computation, HloInstruction, Module

_TARGETS = "__cudnn$conv"
_SCRATCH = "u8["


def missing_workspace_bytes(report: Report, module: Module, temp_bytes: int) -> int:
    """Return how much more device memory a program needs for its workspaces.

    Args:
        report: XLA's account of the program's memory.
        module: The program.
        temp_bytes: Device memory of its temporaries, the gaps between them included.

    Returns:
        By how much the temporaries and the workspace at some step are more than that. 0
        if there are no such convolutions, or XLA knows their workspaces.
    """
    workspaces = {
        report.steps[name]: nbytes
        for name, nbytes in _workspaces(module)
        if name in report.steps
    }
    if not workspaces:
        return 0
    return max(0, _peak(report, workspaces) - temp_bytes)


def _workspaces(module: Module) -> Iterable[tuple[str, int]]:
    """Convolutions that convert, and the bytes of their operands and results."""
    for computation in module.computations:
        for one in computation.instructions:
            if _converts(one) and not _has_workspace(one):
                yield one.name, _operand_bytes(one, computation) + one.device_bytes


def _converts(one: HloInstruction) -> bool:
    """Whether it is a three-dimensional convolution of features channels first."""
    features = one.dim_labels.partition("_")[0]
    is_channels_first = features[-1:].isdigit() and len(features) == 5
    return is_channels_first and one.custom_call_target.startswith(_TARGETS)


def _has_workspace(one: HloInstruction) -> bool:
    """Whether XLA tuned it; the workspace is an array of bytes beside the result."""
    return any(a.text.startswith(_SCRATCH) and a.nbytes for a in one.arrays[1:])


def _operand_bytes(one: HloInstruction, computation: Computation) -> int:
    makers = map(computation.producer, one.operands)
    return sum(maker.device_bytes for maker in makers if maker is not None)


def _peak(report: Report, workspaces: Mapping[int, int]) -> int:
    """The most memory that temporaries and workspaces take at once."""
    waiting = sorted(workspaces)
    most = occupied = 0
    for step, then, _ in (*occupancy(report.temporaries), (len(report.steps), 0, {})):
        while waiting and waiting[0] < step:
            most = max(most, occupied + workspaces[waiting.pop(0)])
        occupied = then
        most = max(most, occupied)
    return most
