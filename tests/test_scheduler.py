"""What `offload` does without a policy, a plan or a budget."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxswap
from jaxswap import _request, _scheduler
from jaxswap._gpu.target import built_in_target
from jaxswap._schedule.swap_heavy import SwapHeavy

MIB = 2**20
H100 = built_in_target("h100")
W = jnp.eye(1024) / 2
"""4 MiB each."""


def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


ARGS = ([W] * 4, W + 0.1)


@dataclasses.dataclass
class Gpu:
    """As much of a `jax.Device` as is looked at."""

    limit_bytes: int
    used_bytes: int = 0
    platform: str = "gpu"

    def memory_stats(self) -> dict[str, int]:
        return {"bytes_limit": self.limit_bytes, "bytes_in_use": self.used_bytes}


def on(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let JAX's default device look like a GPU, of which the numbers are known."""
    monkeypatch.setattr(_scheduler, "default_device", lambda: gpu)
    for module in (_scheduler, _request):
        find = lambda target: H100 if target is None else built_in_target(target)  # noqa: E731
        monkeypatch.setattr(module, "find_target", find)
    monkeypatch.setattr(_request, "measured_here", lambda target, *_: target)


def barriers(**options: Any) -> int:
    """How many barriers the gradient has: each swap and recomputation needs some."""
    fn = jax.grad(jaxswap.offload(loss, **options))
    return str(jax.make_jaxpr(fn)(*ARGS)).count("optimization_barrier")


def swapped(**options: Any) -> int:
    fn = jax.grad(jaxswap.offload(loss, **options))
    return str(jax.make_jaxpr(fn)(*ARGS)).count("Host")


def test_without_a_gpu_the_rule_decides() -> None:
    ruled = str(jax.make_jaxpr(jax.grad(jaxswap.offload(loss)))(*ARGS))
    named = jaxswap.offload(loss, policy=jaxswap.policies.SwapHeavy())
    assert ruled == str(jax.make_jaxpr(jax.grad(named))(*ARGS))
    assert swapped() > 0


def test_without_a_gpu_everything_is_kept_if_the_rule_saves_no_memory() -> None:
    def one_layer(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(x @ w))

    types = [jax.ShapeDtypeStruct((2048, 2048), jnp.float32)] * 2
    kept, ruled, alone = (
        str(jax.make_jaxpr(jax.grad(jaxswap.offload(one_layer, policy=policy)))(*types))
        for policy in (jaxswap.KEEP, jaxswap.policies.SwapHeavy(), None)
    )
    assert alone == kept != ruled


def test_where_everything_fits_everything_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(Gpu(limit_bytes=1000 * MIB), monkeypatch)
    monkeypatch.setattr(_scheduler, "Request", None)  # nothing is planned
    assert swapped() == 0
    assert barriers() == barriers(policy=jaxswap.KEEP)


@pytest.mark.parametrize("target", ["h100", None])
def test_a_target_is_enough(
    target: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if target is None:
        on(Gpu(limit_bytes=1000 * MIB), monkeypatch)
    assert swapped(target=target) == 0


def test_where_not_everything_fits_the_fastest_plan_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(Gpu(limit_bytes=62 * MIB), monkeypatch)
    asked: list[Any] = []
    plan = jaxswap.plan(
        loss, *ARGS, target="h100", policy=jaxswap.OFFLOAD, compile=False
    )

    class Request:
        def __init__(self, **options: Any) -> None:
            asked.append(options)

        def plan(self, source: Any) -> jaxswap.Plan:
            return plan

    monkeypatch.setattr(_scheduler, "Request", Request)
    room = {"reserve": "2MiB", "host_budget": "1GiB", "pieces": 2}
    assert swapped(**room) == swapped(plan=plan) > 0
    asks = {"budget": 62 * MIB, "reserve": 2 * MIB, "host_budget": "1GiB", "pieces": 2}
    assert asked == [{**asks, "target": None}]


def test_arguments_that_are_there_already_do_not_count_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Arguments, gradients: 20 MiB and 16; 100 MiB are free beside them and 500 more.
    on(Gpu(limit_bytes=620 * MIB, used_bytes=520 * MIB), monkeypatch)
    assert _scheduler._memory_bytes(36 * MIB) == 136 * MIB
    on(Gpu(limit_bytes=620 * MIB, used_bytes=10 * MIB), monkeypatch)
    assert _scheduler._memory_bytes(36 * MIB) == 620 * MIB


def test_several_processes_do_not_plan_each_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ruled = swapped()
    on(Gpu(limit_bytes=1000 * MIB), monkeypatch)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert swapped() == ruled > 0


def test_an_unknown_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ruled = swapped()
    on(Gpu(limit_bytes=1000 * MIB), monkeypatch)

    def find(target: Any) -> Any:
        raise ValueError("'NVIDIA X' is not a known GPU.")

    monkeypatch.setattr(_scheduler, "find_target", find)
    with pytest.warns(UserWarning, match="cannot plan for this machine: 'NVIDIA X'"):
        assert swapped() == ruled


@pytest.mark.parametrize("limit_mib", [62, 1000])
def test_the_gradient_is_plain_jaxs(
    limit_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = jax.jit(jax.value_and_grad(loss))(*ARGS)
    on(Gpu(limit_bytes=limit_mib * MIB), monkeypatch)
    found = jax.jit(jax.value_and_grad(jaxswap.offload(loss)))(*ARGS)
    for ours, theirs in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        assert jnp.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_rule_has_a_public_name() -> None:
    assert jaxswap.policies.SwapHeavy is SwapHeavy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": jaxswap.KEEP, "target": "h100"}, "`target` and `policy` are given"),
        ({"policy": jaxswap.KEEP, "reserve": 1}, "`reserve` and `policy` are given"),
        ({"policy": jaxswap.KEEP, "reserve": "x"}, "`reserve` is 'x'"),
        ({"policy": jaxswap.KEEP, "host_budget": 1}, "`host_budget` and `policy` are"),
        ({"host_budget": "x"}, "`host_budget` is 'x'"),
    ],
)
def test_what_a_policy_does_not_ask_for_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jaxswap.offload(loss, **options)


def test_a_plan_has_its_own_target_and_reserve() -> None:
    plan = jaxswap.plan(loss, *ARGS, target="h100", compile=False, progress=False)
    with pytest.raises(ValueError, match="`target` and `plan` are given"):
        jaxswap.offload(loss, plan=plan, target="h100")
    with pytest.raises(ValueError, match="`reserve` and `plan` are given"):
        jaxswap.offload(loss, plan=plan, reserve="1MiB")


def test_without_a_gpu_nothing_is_reserved() -> None:
    with pytest.raises(ValueError, match="GiB, but there is no GPU"):
        jax.grad(jaxswap.offload(loss, reserve="1GiB"))(*ARGS)
    with pytest.raises(
        ValueError, match="`host_budget` is '1GiB', but there is no GPU"
    ):
        jax.grad(jaxswap.offload(loss, host_budget="1GiB"))(*ARGS)


def is_left(fn: Any, *args: Any, **options: Any) -> bool:
    """Whether a function is differentiated as in plain JAX."""
    traced = jax.make_jaxpr(jaxswap.offload(fn, **options))(*args)
    return "custom_jvp_call" not in str(traced)


def test_a_function_that_makes_little_runs_as_in_plain_jax() -> None:
    w, x = jnp.eye(8), jnp.ones((8, 8))
    assert is_left(loss, [w] * 3, x)
    for options in ({"policy": jaxswap.OFFLOAD}, {"target": "h100"}):
        assert not is_left(loss, [w] * 3, x, **options)


def test_a_function_that_makes_a_large_value_does_not() -> None:
    assert not is_left(loss, *ARGS)


def test_nor_does_one_that_makes_many_small_values() -> None:
    w, x = jnp.eye(256), jnp.ones((256, 256))
    assert is_left(loss, [w] * 8, x)
    assert not is_left(loss, [w] * 80, x)
