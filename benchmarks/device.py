"""Cases of one program -> what their training steps take on this machine's GPU.

One process measures all methods: plain first, because compiling it tunes the
convolutions for the others, and because their results are compared with its own. The
others are compiled in threads. Nothing compiles while a step is timed. Profiles come
last. Each row is written when it is made.
"""

import concurrent.futures
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxswap
from benchmarks import compiled, harness, plan_files
from benchmarks.case import Case, budget_bytes
from benchmarks.inputs import draw
from benchmarks.methods import Method, loss_of
from benchmarks.programs import Args, Loss, unet_of
from jaxswap.extend import in_float32

TOLERANCES = {"bf16": 5e-2, "fp32": 5e-3}
"""How far loss and norm of the gradient may be from plain's.

In bfloat16 the gradient may also be so much further than plain's from that in float32.
A U-Net's differs from it by a tenth, whatever the method: two gradients that are right
differ as much. Over millions of numbers these distances agree much better than the
gradients do; a gradient that is half as large again is off by 0.5.
"""
UNTUNED = {"xla_gpu_autotune_level": 0}
"""For a step that runs once."""
REPEATS = 10
LEAST_REPEATS = 3
MOST_SECONDS = 6.0
"""A case's steps are repeated for no longer."""
PROFILED_STEPS = 3
THREADS = 6
"""Programs that are compiled at a time; each takes device memory for its tuning."""
TIMING_SECONDS = 10.0
PROFILE_SECONDS = 20.0
"""What timing and profiling one case may take: none is begun with less left."""
COMPILED_BEFORE_SECONDS = 40.0
"""Compiling is not waited for with less left; what is ready is timed then."""
LONGEST = 25
"""Kernels that a profile's row names."""

Row = dict[str, Any]
Record = Callable[[Case, Row], None]


@dataclasses.dataclass
class Built:
    """A case's step on its way to the device.

    Attributes:
        facts: What is known of it; becomes its row.
        plan: What it follows, if it is planned for a budget.
        step: The compiled step; `None` until it is compiled.
    """

    facts: Row
    plan: jaxswap.Plan | None = None
    step: jax.stages.Compiled | None = None


def measure(cases: Sequence[Case], record: Record, left: Callable[[], float]) -> None:
    """Check the training steps of cases, loss and gradient, and time them.

    Args:
        cases: Of one program on one card; those with the backend `"profile"` are
            profiled instead.
        record: Is given each case with its row, as soon as it is made.
        left: Says how many seconds are left. What they are too few for is left out.
    """
    plain = dataclasses.replace(cases[0].plain(), backend="device")
    values = draw(loss_of("plain", plain.workload, is_tiny=plain.is_tiny)[1])
    built = {_way(plain): _compile(*_lowered(plain, {}))}
    reference = _timed(plain, built[_way(plain)], values, {})
    peak = {"peak_bytes": harness.peak_bytes()}
    gradient = reference.pop("gradient", None)
    exact = None
    if gradient is not None and _tolerance(plain.workload) == TOLERANCES["bf16"]:
        found = _guarded(lambda: {"exact": _in_float32(plain, values)})
        exact = found.get("exact")
        if exact is None:
            reference["float32_error"] = found["error"]
        else:
            reference["float32_difference"] = _distance(gradient, exact)
    timing = [case for case in cases if case.backend == "device"]
    if plain.key in {case.key for case in timing}:
        record(plain, reference | peak)
    reference |= {"gradient": gradient, "exact": exact}
    others = {_way(case): case for case in cases if case.method != "plain"}
    ready, beside = _compile_all(others.values(), reference, left)
    built |= ready
    disturbed = {"compiling_beside": beside} if beside else {}
    for case in timing:
        one = built.get(_way(case))
        if one and case.method != "plain" and left() > TIMING_SECONDS:
            record(case, _timed(case, one, values, reference) | disturbed)
    for case in cases:
        one = built.get(_way(case))
        is_asked = case.backend == "profile" and left() > PROFILE_SECONDS
        if one and one.step and is_asked:
            record(case, _profiled(one, values) | disturbed)


def _way(case: Case) -> tuple[str, str]:
    """What tells the programs of one workload apart."""
    return case.method, case.budget


def _compile_all(
    cases: Iterable[Case], plain: Row, left: Callable[[], float]
) -> tuple[dict[tuple[str, str], Built], int]:
    """Compile cases in threads; return those done in time, and how many still run."""
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    futures = {}
    for case in cases:
        if left() < TIMING_SECONDS:
            break
        futures[pool.submit(_compile, *_lowered(case, plain))] = case
    patience = max(0.0, min(left() - COMPILED_BEFORE_SECONDS, threading.TIMEOUT_MAX))
    done, rest = concurrent.futures.wait(futures, timeout=patience)
    pool.shutdown(wait=False, cancel_futures=True)
    running = sum(not future.cancelled() for future in rest)
    return {_way(futures[future]): future.result() for future in done}, running


def _lowered(case: Case, plain: Row) -> tuple[Any, Built, dict[str, Any]]:
    """Trace a case's step; what is raised becomes its row."""
    built = Built({})

    def lower() -> Row:
        start = time.perf_counter()
        loss, args, method = loss_of(case.method, case.workload, is_tiny=case.is_tiny)
        loss, built.plan = _carried_out(loss, args, method, case, plain)
        step = jax.jit(jax.value_and_grad(loss))
        lowered = step.trace(*args).lower()
        seconds = time.perf_counter() - start
        needed = jaxswap.compiler_options(step, *args)  # which is not traced again
        _check_options(built.plan, needed)
        options = {"compiler_options": needed | dict(method.options)}
        return {"trace_seconds": seconds, "lowered": lowered, **options}

    row = _guarded(lower)
    lowered = row.pop("lowered", None)
    built.facts = row | _said(built.plan)
    return lowered, built, row.get("compiler_options", {})


def _check_options(plan: jaxswap.Plan | None, options: dict[str, bool]) -> None:
    """Refuse a plan that was made for a program that XLA compiles in another way."""
    if plan is not None and dict(plan.compiler_options) != options:
        raise ValueError(
            f"the plan was made with XLA's options {dict(plan.compiler_options)}, the "
            f"step is compiled with {options}: delete the plan and make it anew."
        )


def _in_float32(plain: Case, values: Args) -> Any:
    """Compute the plain gradient in float32 at the highest precision."""
    loss, args, _ = loss_of("plain", plain.workload, is_tiny=plain.is_tiny)
    step = jax.jit(in_float32(jax.value_and_grad(loss)))
    options: Row = jaxswap.compiler_options(step, *args) | UNTUNED
    _, gradient = step.lower(*args).compile(compiler_options=options)(*values)
    return jax.tree.map(np.asarray, gradient)


def _compile(lowered: Any, built: Built, options: dict[str, Any]) -> Built:
    """Compile what was traced; on failure say why."""
    if lowered is None:
        return built

    def compile_it() -> Row:
        start = time.perf_counter()
        step = built.step = lowered.compile(compiler_options=options)
        seconds = time.perf_counter() - start
        memory: Any = step.memory_analysis()
        argument, output = memory.argument_size_in_bytes, memory.output_size_in_bytes
        temp, alias = memory.temp_size_in_bytes, memory.alias_size_in_bytes
        return {
            "compile_seconds": seconds,
            "argument_bytes": argument,
            "output_bytes": output,
            "temp_bytes": temp,
            "host_bytes": memory.host_temp_size_in_bytes,
            "device_bytes": argument + output + temp - alias,
        }

    built.facts |= _guarded(compile_it)
    return built


def _carried_out(
    loss: Loss, args: Args, method: Method, case: Case, plain: Row
) -> tuple[Loss, jaxswap.Plan | None]:
    """The loss whose gradient is to be compiled, and the plan that it follows."""
    if method.needs_budget:
        plan = plan_files.find(case) or plan_of(
            loss, args, method, budget_bytes(case.budget, plain)
        )
        return jaxswap.offload(loss, plan=plan), plan
    if method.policy is not None:
        return jaxswap.offload(loss, policy=method.policy), None
    return loss, None


def plan_of(loss: Loss, args: Args, method: Method, budget: Any) -> jaxswap.Plan:
    """Plan for the GPU at hand; without one, for another that is not compiled for."""
    return jaxswap.plan(
        loss,
        *args,
        budget=budget,
        policy=method.policy,
        target=None if is_gpu() else "h100",
        compile=is_gpu(),
        most_compiles=compiled.MOST_COMPILES,
        progress=False,
    )


def is_gpu() -> bool:
    """Whether JAX's default device is a GPU; else this backend is only tried out."""
    return jax.default_backend() == "gpu"


def _said(plan: jaxswap.Plan | None) -> Row:
    """What a plan said."""
    if plan is None:
        return {}
    return {
        "planned_for": plan.target.name,
        "budget_bytes": plan.budget_bytes,
        "planned_device_bytes": plan.device_bytes,
        "planned_host_bytes": plan.host_bytes,
        "simulated_seconds": plan.seconds,
        "plain_simulated_seconds": plan.plain.seconds,
    }


def _timed(case: Case, built: Built, values: Args, plain: Row) -> Row:
    """Compare a step's results with plain's, then time it."""
    step: Any = built.step
    if step is None:
        return built.facts

    def time_it() -> Row:
        start = time.perf_counter()
        loss, gradient = jax.block_until_ready(step(*values))
        row: Row = {"first_step_seconds": time.perf_counter() - start}
        found = {"loss": float(loss), "gradient_norm": float(norm(gradient))}
        row |= found
        wrong = difference(found, plain, case.workload)
        if wrong:
            return row | {"error": wrong}
        kept, exact = plain.get("gradient"), plain.get("exact")
        if exact is not None:
            row["plain_float32_difference"] = of_plain = plain["float32_difference"]
            row["float32_difference"] = away = _distance(gradient, exact)
            if not away <= of_plain + _tolerance(case.workload):
                wrong = f"gradient is {away:.2g} from float32, plain's {of_plain:.2g}"
                return row | {"error": wrong}
        if kept is not None:
            row["gradient_difference"] = _distance(gradient, kept)
        elif case.method == "plain":
            row["gradient"] = jax.tree.map(np.asarray, gradient)
        del loss, gradient
        row |= _repeated(lambda: step(*values))
        if "median_seconds" in plain:
            row["of_plain"] = row["median_seconds"] / plain["median_seconds"]
        return row

    return built.facts | _guarded(time_it)


def _repeated(call: Callable[[], Any]) -> Row:
    """Time a step as often as there is time for, at least thrice."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    once = time.perf_counter() - start
    count = min(REPEATS, math.ceil(MOST_SECONDS / once))
    return harness.seconds(call, max(LEAST_REPEATS, count))


def _profiled(built: Built, values: Args) -> Row:
    """Profile a step."""
    options: Any = {"plan": built.plan, "repeats": PROFILED_STEPS}
    return _guarded(
        lambda: profile_row(jaxswap.profile(built.step, *values, **options))
    )


def profile_row(profile: jaxswap.Profile) -> Row:
    """Return a profile as a row of results; milliseconds, as earlier rows have them."""
    row = {
        "steps": len(profile.steps),
        "compute_ms": 1e3 * profile.compute_seconds,
        "span_ms": 1e3 * profile.seconds,
        "stall_ms": 1e3 * profile.stall_seconds,
        "idle_ms": 1e3 * profile.idle_seconds,
    }
    for name, copies in (("swap_out", profile.swap_out), ("swap_in", profile.swap_in)):
        row |= {
            f"{name}_ms": 1e3 * copies.seconds,
            f"{name}_count": copies.count,
            f"{name}_bytes": copies.nbytes,
            f"{name}_hidden_ms": 1e3 * copies.hidden_seconds,
        }
    named = {"longest": profile.by_kernel, "longest_by_label": profile.by_label}
    return row | {
        field: [[one.label[:90], 1e3 * one.seconds, one.count] for one in kernels]
        for field, kernels in ((f, found[:LONGEST]) for f, found in named.items())
    }


def _guarded(make: Callable[[], Row]) -> Row:
    """Return a row; what is raised becomes its `error`, so that it costs one row."""
    try:
        return make()
    except jaxswap.BudgetError as failure:
        return {"error": "does not fit", "smallest_bytes": failure.smallest_bytes}
    except Exception as failure:
        if "RESOURCE_EXHAUSTED" in str(failure):
            return {"error": "out of memory"}
        lines = str(failure).strip().splitlines() or [""]
        return {"error": f"{type(failure).__name__}: {lines[0][:300]}"}


def difference(found: dict[str, float], plain: Row, workload: str) -> str:
    """What is wrong with a step's results; nothing if they are plain's."""
    if not all(math.isfinite(number) for number in found.values()):
        return "loss or gradient is not finite"
    tolerance = _tolerance(workload)
    for name, number in found.items():
        expected = plain.get(name)
        if expected is not None and abs(number - expected) > tolerance * abs(expected):
            return f"{name.replace('_', ' ')} is {number:.6g}, plain's {expected:.6g}"
    return ""


def _tolerance(workload: str) -> float:
    """How far results may be off."""
    parts = unet_of(workload)
    return TOLERANCES[parts[1] if parts else "bf16"]


def _distance(found: Any, expected: Any) -> float:
    """Distance of two gradients as a share of the second's norm."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    squares = sum(
        float(jnp.sum(jnp.square(a.astype(jnp.float32) - b.astype(jnp.float32))))
        for a, b in pairs
    )
    whole = float(norm(expected))
    return math.sqrt(squares) / whole if whole else math.sqrt(squares)


def norm(tree: Any) -> jax.Array:
    """Return the Euclidean norm of all numbers of a tree, in float32."""
    squares = [
        jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)
    ]
    return jnp.sqrt(sum(squares))
