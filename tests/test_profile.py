"""`jaxswap.profile` says what is wrong, finds the plan, and returns what was read."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from gpu_profile import gpu_profile

import jaxswap
from jaxswap import _profile
from jaxswap._profile import followed_plan


def loss(w: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(jnp.tanh(w @ w) @ w))


W = jnp.eye(8)
STEP = jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize(
    ("step", "given", "error", "message"),
    [
        (
            loss,
            {},
            TypeError,
            "`step` is <function loss.*not compiled: pass jaxswap",
        ),
        (STEP, {"repeats": 0}, ValueError, "`repeats` is 0; an integer of at least 1"),
        (STEP, {"plan": "p"}, TypeError, "`plan` is 'p'; it must be a plan"),
        (
            STEP,
            {},
            RuntimeError,
            r"needs a GPU, and the device is `.*` \(cpu\). Run it",
        ),
    ],
)
def test_what_cannot_be_profiled_is_refused(
    step: Any, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        jaxswap.profile(step, W, **given)


def test_the_plan_is_found_on_the_function() -> None:
    plan = jaxswap.plan(loss, W, target="h100", compile=False, progress=False)
    offloaded = jaxswap.offload(loss, plan=plan)
    for step in (offloaded, jax.grad(offloaded), jax.value_and_grad(offloaded)):
        assert followed_plan(jax.jit(step)) is plan
    assert followed_plan(STEP) is None
    assert followed_plan(jax.jit(jax.grad(jaxswap.offload(loss)))) is None


class Gpu:
    platform, device_kind = "gpu", "NVIDIA H200"


@pytest.mark.parametrize("step", [STEP, STEP.lower(W).compile()])
def test_a_step_is_profiled(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []

    def record(compiled: Any, args: Any, repeats: int, kwargs: Any) -> Any:
        ran.append((type(compiled), args, repeats, kwargs))
        return gpu_profile()

    monkeypatch.setattr(_profile, "default_device", Gpu)
    monkeypatch.setattr(_profile, "record", record)
    plan = jaxswap.plan(loss, W, target="h100", compile=False, progress=False)
    profile = jaxswap.profile(step, W, plan=plan, repeats=2)
    assert ran == [(jax.stages.Compiled, (W,), 2, {})]
    assert (profile.device, len(profile.steps)) == ("NVIDIA H200", 2)
    assert profile.plan is plan
    assert profile.seconds == pytest.approx(9e-3)
