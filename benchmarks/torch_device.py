"""A case -> what a training step of the U-Net takes in PyTorch, by its own methods.

The gradient is compared with plain PyTorch's on a small volume before anything is
timed. On a machine without CUDA it runs on the processor, to try it out.
"""

# pyright: reportMissingImports=false
# PyTorch is used where it is installed; it is no requirement.

import contextlib
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks import harness
from benchmarks.case import Case, card_bytes
from benchmarks.programs import unet_of
from benchmarks.torch_offload import LEAST_BYTES, OffloadSavedTensors
from benchmarks.torch_unet import Shape, UNet3D, dice_loss

TINY = Shape(base_filters=2, depth=2, segmentation_levels=1)
GRADIENT_TOLERANCE = 1e-3
REPEATS = 10
BUDGETS = {"torch compile, budget 0.5": 0.5, "torch compile, budget 0.25": 0.25}
Call = Callable[..., Any]


def _checkpointed(block: nn.Module) -> Call:
    return lambda x: checkpoint(block, x, use_reentrant=False)


def model_of(method: str, shape: Shape) -> UNet3D:
    """Build the network that a method trains."""
    torch.manual_seed(0)
    if method == "torch checkpoint each block":
        return UNet3D(shape, _checkpointed)
    return UNet3D(shape)


def compiled(model: nn.Module, method: str) -> Any:
    """Compile a network if the method asks for it."""
    if not method.startswith("torch compile"):
        return model
    import torch._functorch.config as config

    torch.compiler.reset()  # what was compiled for another budget is not used again
    config.activation_memory_budget = BUDGETS.get(method, 1.0)
    return torch.compile(model)


def context_of(
    method: str, shape: Shape | None = None
) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a network's forward pass runs."""
    if method == "torch save_on_cpu":
        pinned = torch.cuda.is_available()
        return torch.autograd.graph.save_on_cpu(pin_memory=pinned)
    if method == "torch offload, own streams":
        return OffloadSavedTensors(0 if shape == TINY else LEAST_BYTES)
    return contextlib.nullcontext()


METHODS = (
    "torch plain",
    "torch checkpoint each block",
    "torch save_on_cpu",
    "torch offload, own streams",
    "torch compile",
    *BUDGETS,
)


def cases(workload: str, card: str = "", *, is_tiny: bool = False) -> list[Case]:
    """Return the measurements of PyTorch's methods on a U-Net."""
    return [
        Case("unet3d", workload, method, "", "torch", "", card, is_tiny)
        for method in METHODS
    ]


def measure(case: Case, plain: dict[str, Any] | None = None) -> dict[str, Any]:
    """Check one training step, loss and gradient, and time it.

    Raises:
        ValueError: If the workload is no U-Net, or the gradient is wrong.
    """
    del plain
    parts = unet_of(case.workload)
    if parts is None:
        raise ValueError(f"{case.workload} is not written in PyTorch; a U-Net is.")
    side, kind, batch = (8, "fp32", 1) if case.is_tiny else parts
    shape = TINY if case.is_tiny else Shape()
    if case.card and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(card_bytes(case.card) / total)
    error = gradient_error(case.method, shape, min(side, 32))
    if not error <= GRADIENT_TOLERANCE:
        raise ValueError(f"the gradient of `{case.method}` is off by {error:.1%}.")
    measured: dict[str, Any] = {"gradient_error": error, "torch": torch.__version__}
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    try:
        measured |= _timed(case.method, shape, (batch, side, dtype))
    except torch.cuda.OutOfMemoryError:
        measured["error"] = "out of memory"
    if torch.cuda.is_available():
        measured["peak_bytes"] = torch.cuda.max_memory_allocated()
        measured["reserved_bytes"] = torch.cuda.max_memory_reserved()
    return measured


def _timed(
    method: str, shape: Shape, volume: tuple[int, int, torch.dtype]
) -> dict[str, Any]:
    model = model_of(method, shape).to(_where())
    call = compiled(model, method)
    images, targets = inputs(shape, *volume)
    start = time.perf_counter()
    for _ in range(2):
        step(model, call, method, images, targets)
    _wait()
    first = time.perf_counter() - start
    loss, times = 0.0, []
    for _ in range(REPEATS):
        start = time.perf_counter()
        loss = step(model, call, method, images, targets)
        _wait()
        times.append(time.perf_counter() - start)
    return {"loss": loss, "first_steps_seconds": first, **harness.summary(times)}


def step(model: UNet3D, call: Call, method: str, images: Any, targets: Any) -> float:
    """Compute loss and gradient once; the gradient is left in the parameters."""
    model.zero_grad(set_to_none=True)
    with context_of(method, model.shape):
        loss = dice_loss(call(images), targets)
    loss.backward()
    return float(loss.detach())


def inputs(shape: Shape, batch: int, side: int, dtype: torch.dtype) -> Any:
    """Return random images and targets."""
    generator = torch.Generator().manual_seed(1)
    sides = (side,) * 3
    images = torch.randn((batch, shape.channels, *sides), generator=generator)
    targets = torch.rand((batch, shape.classes, *sides), generator=generator) < 0.3
    return images.to(_where(), dtype), targets.to(_where(), dtype)


def gradient_error(method: str, shape: Shape, side: int) -> float:
    """Return the distance of a method's gradient to plain PyTorch's, relative."""
    images, targets = inputs(shape, 1, side, torch.float32)
    gradients = []
    for name in ("torch plain", method):
        model = model_of(name, shape).to(_where())
        step(model, compiled(model, name), name, images, targets)
        flat = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat(flat).double())
    expected, found = gradients
    return float((found - expected).norm() / expected.norm())


def _where() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
