"""What do tracing, planning and compiling cost, plain and with jaxswap?

Processor time of this machine, which need have no GPU; compiled for one that need not
be there.
"""

import time
from typing import Any

import jax

import jaxswap
from benchmarks.case import Case
from benchmarks.methods import loss_of
from benchmarks.programs import Args, Loss

WORKLOADS = ("unet3d-192-bf16", "transformer-unrolled", "transformer-scanned", "mlp")
METHODS = ("plain", "SwapHeavy")


def cases(target: str, *, is_tiny: bool = False) -> list[Case]:
    """Return the measurements of the suite."""
    return [
        Case("overhead", workload, method, "", "overhead", target, is_tiny=is_tiny)
        for workload in (WORKLOADS[-1:] if is_tiny else WORKLOADS)
        for method in METHODS
    ]


def measure(case: Case, plain: dict[str, Any] | None = None) -> dict[str, Any]:
    """Time tracing and compiling one training step; with jaxswap, planning too."""
    del plain
    loss, args = _loss_of(case)
    step = jax.jit(jax.value_and_grad(loss))
    step.trace(*args)  # what is done once, imports above all, does not count
    loss, args = _loss_of(case)
    start = time.process_time()
    jax.jit(jax.value_and_grad(loss)).trace(*args)
    measured = {"trace_seconds": time.process_time() - start}
    if case.method != "plain":
        base, args, _ = loss_of("plain", case.workload, is_tiny=case.is_tiny)
        start = time.process_time()
        budget = "1GB" if case.is_tiny else "smallest"
        jaxswap.plan(base, *args, budget=budget, target=case.target, compile=False)
        measured["planning_seconds"] = time.process_time() - start
    start = time.process_time()
    seen = jaxswap.inspect(jax.value_and_grad(loss), *args, target=case.target)
    return measured | {
        "all_processor_seconds": time.process_time() - start,
        "compile_seconds": seen.compile_seconds,
        "device_bytes": seen.device_bytes,
    }


def _loss_of(case: Case) -> tuple[Loss, Args]:
    """Build the loss whose gradient is traced."""
    loss, args, method = loss_of(case.method, case.workload, is_tiny=case.is_tiny)
    if method.policy is not None:
        loss = jaxswap.offload(loss, policy=method.policy)
    return loss, args
