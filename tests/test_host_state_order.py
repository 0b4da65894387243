"""In which order states in host memory come to the device and go back."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from optimizers import ADAM, HOST, OPTIMIZERS, SMALL

from jaxswap import host_state

pytestmark = pytest.mark.usefixtures("all_optimizations", "lenient_promotion")


def equations(tx: Any) -> list[Any]:
    """What an update of six layers traces to, large leaves on the host."""
    tx = host_state(tx, min_bytes=SMALL)
    layer = {"w": jnp.ones((8, 8)), "b": jnp.ones(8)}
    params = [layer] * 6
    return list(jax.make_jaxpr(tx.update)(params, tx.init(params), params).eqns)


def most_on_device(eqns: list[Any]) -> int:
    """How many arrays that came from the host are there at a time, at most."""
    now = most = 0
    for eqn in eqns:
        if eqn.primitive.name == "device_put":
            now += -1 if eqn.outvars[0].aval.memory_space == HOST else 1
            most = max(most, now)
    assert now == 0
    return most


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("adam", 1),
        ("amsgrad", 2),
        ("averaged", 1),
        ("clipped after", 1),
        ("clipped before", 1),
        ("momentum", 1),
        ("multi-step", 3),
    ],
)
def test_leaves_come_one_after_the_other(name: str, most: int) -> None:
    assert most_on_device(equations(OPTIMIZERS[name])) <= most


def test_arrival_waits_for_what_was_sent_before() -> None:
    """In data, not in order alone: XLA may change the order."""
    eqns = equations(ADAM)
    sent = [e.outvars[0] for e in eqns if e.primitive.name == "device_put"]
    sent = [v for v in sent if v.aval.memory_space == HOST]
    barriers = [e for e in eqns if e.primitive.name == "optimization_barrier"]
    awaited = [v for e in barriers for v in e.invars if v in sent]
    # All but the last two, each once, in order, and each result is one of a barrier.
    assert awaited == sent[: len(awaited)]
    assert len(awaited) >= len(sent) - 3
    assert all(len(e.invars) > 1 for e in barriers)


def test_first_arrival_waits_for_gradients() -> None:
    """Or it would be on the device during the whole backward pass."""
    eqns = equations(ADAM)
    first = next(e for e in eqns if e.primitive.name == "optimization_barrier")
    on_device = [v.aval.shape for v in first.invars if v.aval.memory_space != HOST]
    # Its own gradient and that of the next, which is made from the old parameters.
    assert on_device == [(8, 8)] * 2


def test_unchanged_leaves_do_not_travel() -> None:
    def init(params: Any) -> Any:
        return jax.tree.map(jnp.ones_like, params)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        return updates, state

    frozen = optax.GradientTransformation(init, update)
    assert not equations(frozen)


def test_known_conditions_choose_when_traced() -> None:
    names = [e.primitive.name for e in equations(OPTIMIZERS["multi-step"])]
    assert "cond" not in names


def test_other_conditions_are_left_alone() -> None:
    names = [e.primitive.name for e in equations(OPTIMIZERS["finite"])]
    assert names.count("cond") == 1
