"""The names of suites -> the cases that they are made of, the most valuable first."""

from collections.abc import Iterator

from benchmarks.case import Case
from benchmarks.methods import METHODS, methods_of

SIDES = (192, 128, 256, 96, 144, 160, 320, 512)
"""Voxels along the sides of the U-Net's volumes."""
BUDGETS = {"jaxswap": ("50%", "25%", "smallest"), "TFLMSv2": ("50%",)}
"""What methods that plan are given."""
UNROLLED = ("transformer-unrolled", "transformer-scanned")
WORKLOADS: dict[str, tuple[str, ...]] = {
    "unet3d": tuple(f"unet3d-{n}-{t}" for t in ("bf16", "fp32") for n in SIDES),
    "transformer": UNROLLED,
    "mlp": ("mlp",),
    "resnet": ("resnet50-512",),
}
"""The suites that compare methods on programs, and their programs."""

PAPER_CARD = "16GB"
"""The papers' V100."""
PAPER_SIDES = (144, 192, 256, 320)
"""What fits that card plain, the two papers' volumes, the case studies' largest."""
PAPER_METHODS = (
    "plain",
    "textbook layers",
    "checkpoint each block",
    "JAX offload whole",
    "JAX offload whole, scheduler off",
    "per-tensor list",
    "SwapEverything",
    "Imai2018",
    "TFLMSv2",
    "jaxswap",
)


def comparison(
    workload: str, backend: str, target: str = "", *, is_tiny: bool = False
) -> Iterator[Case]:
    """All methods on one program, plain first: budgets are shares of it."""
    suite = next((s for s, names in WORKLOADS.items() if workload in names), "unet3d")
    for method in methods_of(workload):
        budgets = BUDGETS[method] if METHODS[method].needs_budget else ("",)
        for budget in budgets:
            yield Case(
                suite, workload, method, budget, backend, target, is_tiny=is_tiny
            )


def papers(
    backend: str, target: str = "", *, sides: tuple[int, ...] = PAPER_SIDES
) -> Iterator[Case]:
    """The papers' network in float32, as they trained it, on a card of theirs.

    A device is limited to the card; compiled programs are held against it afterwards.
    """
    card = PAPER_CARD if backend == "device" else ""
    for side in sides:
        for method in PAPER_METHODS:
            budget = PAPER_CARD if METHODS[method].needs_budget else ""
            workload = f"unet3d-{side}-fp32"
            yield Case("papers", workload, method, budget, backend, target, card)
