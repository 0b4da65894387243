"""The names of suites -> the cases that they are made of, the most valuable first."""

import dataclasses
import functools
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence

from benchmarks import harness, link, overhead
from benchmarks.case import AS, Case
from benchmarks.methods import METHODS, methods_of
from benchmarks.programs import unet_of

DEFAULT_TARGET = "h100"
SIDES = (192, 320, 512)
"""Voxels along the sides of the U-Net's volumes, those of papers' tables aside. Smaller
ones need no method: they fit every GPU."""
BUDGETS = {
    "jaxswap": ("50%", "33%", "25%", "smallest", "as checkpoint each block"),
    "TFLMSv2": ("50%", "smallest"),
}
"""What methods that plan are given."""
UNROLLED = ("transformer-unrolled", "transformer-scanned")
WORKLOADS: dict[str, tuple[str, ...]] = {
    "unet3d": tuple(f"unet3d-{n}-{t}" for t in ("bf16", "fp32") for n in SIDES),
    "transformer": UNROLLED,
    "mlp": ("mlp",),
    "resnet": ("resnet50-512",),
}
"""The suites that compare methods on programs, and their programs."""

SUITES: dict[str, tuple[str, ...]] = {
    "unet3d": ("compiled", "device"),
    "transformer": ("compiled", "device"),
    "mlp": ("compiled", "device"),
    "resnet": ("compiled", "device"),
    "papers": ("compiled", "device"),
    "overhead": ("compiled",),
    "link": ("device",),
    "planner": ("compiled",),
}
"""The suites, and the backends that each can be run on."""

FIRST_METHODS = (
    "plain",
    "jaxswap",
    "checkpoint each block",
    "JAX offload whole",
    "JAX offload each block",
    "per-tensor list",
    "SwapHeavy",
    "checkpoint each block, heavy saved",
)
FIRST_BUDGETS = ("50%", "33%")
"""What a device times first, on each of these programs, and profiles."""
FIRST_WORKLOADS = (
    ("unet3d", "unet3d-192-bf16"),
    ("transformer", "transformer-unrolled"),
    ("mlp", "mlp"),
    ("unet3d", "unet3d-320-bf16"),
    ("unet3d", "unet3d-512-bf16"),
)

ORDER = (
    ("link", ""),
    ("unet3d", "unet3d-192-bf16"),
    ("papers", ""),
    ("transformer", "transformer-unrolled"),
    ("mlp", "mlp"),
    ("resnet", "resnet50-512"),
    ("overhead", ""),
    ("unet3d", "unet3d-192-fp32"),
    ("transformer", "transformer-scanned"),
    *(("unet3d", workload) for workload in WORKLOADS["unet3d"]),
)
"""Suites and the workloads they compare, the most valuable first."""

PAPER_CARD = "16GB"
"""The papers' V100."""
PAPER_SIDES = (144, 192, 256, 320)
"""What fits that card plain, the two papers' volumes, the case studies' largest."""
PAPER_METHODS = (
    "plain",
    "jaxswap",
    "TFLMSv2",
    "Imai2018",
    "SwapEverything",
    "checkpoint each block",
    "JAX offload whole",
    "JAX offload whole, scheduler off",
    "textbook layers",
    "per-tensor list",
)

TINY_WORKLOADS = ("unet3d-192-fp32", "transformer-unrolled", "transformer-scanned")
TINY_WORKLOADS += ("mlp", "resnet50-512")
TINY_BUDGET = "90%"
"""Arguments and results are most of tiny programs."""
TINY_METHODS = (
    "plain",
    "checkpoint each block",
    "JAX offload whole",
    "per-tensor list",
    "Imai2018",
    "SwapHeavy",
    "jaxswap",
)
"""With `--tiny`: one method of each kind on the U-Net, `TINY_PAIR` on the rest."""
TINY_PAIR = ("plain", "LMS")


def cases_of(
    chosen: Sequence[str], backend: str, target: str = "", *, is_tiny: bool = False
) -> Iterator[Case]:
    """All measurements of some suites, the most valuable first.

    Args:
        chosen: Names of suites; `planner` has a script of its own and none here.
        backend: `"compiled"` or `"device"`.
        target: Name of the GPU that is compiled for.
        is_tiny: A few of each suite, on programs that take seconds.
    """
    if backend == "device" and not is_tiny:
        yield from _first(chosen)
    order = ORDER
    if is_tiny:
        pairs = [(s, w) for s, names in WORKLOADS.items() for w in names]
        order = [(s, w) for s, w in pairs if w in TINY_WORKLOADS]
        order += [("papers", ""), ("overhead", ""), ("link", "")]
    for suite, workload in order:
        if suite not in chosen or backend not in SUITES[suite]:
            continue
        if suite == "link":
            yield from link.cases(is_tiny=is_tiny)
        elif suite == "overhead":
            yield from overhead.cases(target or DEFAULT_TARGET, is_tiny=is_tiny)
        elif suite == "papers":
            yield from papers(backend, target, is_tiny=is_tiny)
        else:
            yield from comparison(workload, backend, target, is_tiny=is_tiny)


def _first(chosen: Sequence[str]) -> Iterator[Case]:
    """The most valuable measurements of a device: minutes in all but for the last."""
    if "link" in chosen:
        yield from link.cases()
    for suite, workload in FIRST_WORKLOADS:
        if suite not in chosen:
            continue
        cases = [
            Case(suite, workload, method, budget, "device", "")
            for method in FIRST_METHODS
            if method in methods_of(workload)
            for budget in (FIRST_BUDGETS if METHODS[method].needs_budget else ("",))
        ]
        yield from cases
        yield from profiles(cases)
        if unet_of(workload) and has_torch():
            yield from torch_cases(suite, workload)
    if "papers" in chosen:
        yield from papers("device")


def profiles(cases: Iterable[Case]) -> Iterator[Case]:
    """The same programs, to be profiled."""
    for case in cases:
        yield dataclasses.replace(case, backend="profile")


def comparison(
    workload: str, backend: str, target: str = "", *, is_tiny: bool = False
) -> Iterator[Case]:
    """All methods on one program, plain first: budgets are shares of it.

    On a device PyTorch's methods follow, where it is installed and sees the GPU.
    """
    suite = next((s for s, names in WORKLOADS.items() if workload in names), "unet3d")
    names = methods_of(workload)
    if is_tiny:
        wanted = TINY_METHODS if suite == "unet3d" else TINY_PAIR
        names = [name for name in names if name in wanted]
    for method in names:
        budgets = BUDGETS[method] if METHODS[method].needs_budget else ("",)
        if backend == "device":  # one process measures all: nothing was needed before
            budgets = tuple(b for b in budgets if not b.startswith(AS))
        for budget in (TINY_BUDGET,) if is_tiny and budgets[0] else budgets:
            yield Case(
                suite, workload, method, budget, backend, target, is_tiny=is_tiny
            )
    if backend == "device" and unet_of(workload) and has_torch(is_tiny=is_tiny):
        yield from torch_cases(suite, workload, is_tiny=is_tiny)


def papers(backend: str, target: str = "", *, is_tiny: bool = False) -> Iterator[Case]:
    """The papers' network in float32, as they trained it, on a card of theirs.

    A device is limited to the card; compiled programs are held against it afterwards.
    """
    card = PAPER_CARD if backend == "device" else ""
    for side in PAPER_SIDES[:1] if is_tiny else PAPER_SIDES:
        workload = f"unet3d-{side}-fp32"
        for method in PAPER_METHODS[:2] if is_tiny else PAPER_METHODS:
            budget = PAPER_CARD if METHODS[method].needs_budget else ""
            yield Case(
                "papers", workload, method, budget, backend, target, card, is_tiny
            )
        if backend == "device" and not is_tiny and has_torch():
            yield from torch_cases("papers", workload, card)


def torch_cases(
    suite: str, workload: str, card: str = "", *, is_tiny: bool = False
) -> Iterator[Case]:
    """PyTorch's methods on a U-Net; needs PyTorch."""
    from benchmarks import torch_device

    for case in torch_device.cases(workload, card, is_tiny=is_tiny):
        yield dataclasses.replace(case, suite=suite)


@functools.cache
def has_torch(*, is_tiny: bool = False) -> bool:
    """Whether PyTorch is installed and, but for tiny programs, sees a GPU.

    It is asked in a process of its own: here it would take device memory.
    """
    if importlib.util.find_spec("torch") is None:
        return False
    asked = "import torch; print(torch.cuda.is_available())"
    return is_tiny or harness.output_of([sys.executable, "-c", asked]) == "True"
