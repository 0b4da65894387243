"""Planes at places known beforehand are copied; all others are looked up."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from slab_programs import check_by_slabs, traced

from jaxswap._sweeps.known_numbers import COMPUTED, KnownNumbers

Array = jax.Array
PLANES = 12

EVEN: dict[str, Callable[[], Array]] = {
    "repeated": lambda: jnp.arange(3 * PLANES) // 3,
    "sliced": lambda: 1 + 3 * jnp.arange(PLANES // 3),
    "all": lambda: jnp.arange(PLANES),
}
OTHER: dict[str, Callable[[], Array]] = {
    "turned": lambda: PLANES - 1 - jnp.arange(PLANES),
    "uneven": lambda: jnp.arange(PLANES + 1) * PLANES // (PLANES + 1),
    "beyond": lambda: 2 * jnp.arange(PLANES),
    "before": lambda: jnp.arange(PLANES) - 1,
}


def loss(x: Array, find: Callable[[], Array]) -> Array:
    planes = lax.gather(
        jnp.tanh(x),
        find()[:, None],
        lax.GatherDimensionNumbers((0, 2), (1,), (1,)),
        (x.shape[0], 1, x.shape[2]),
        mode="clip",
    )
    return jnp.sum(jnp.sin(planes))


@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize("name", [*EVEN, *OTHER])
def test_even_places_need_no_look_up(name: str) -> None:
    find = (EVEN | OTHER)[name]
    x = jax.random.normal(jax.random.key(0), (2, PLANES, 3))
    slabbed = check_by_slabs(lambda x: loss(x, find), [x], {0: 1})
    looked_up = {reason.primitive for reason in slabbed.reasons}
    assert looked_up == (set() if name in EVEN else {"gather", "scatter-add"})


@pytest.mark.usefixtures("lenient_promotion")
def test_known_numbers_are_those_of_jax() -> None:
    def fn(x: Array) -> Array:
        rows = lax.broadcasted_iota(jnp.int32, (3, 4), 1) - 2
        some = [rows // 2, rows % 3, lax.rem(rows, 3), lax.div(rows, 2), -rows]
        some += [
            lax.clamp(0, rows, 1),
            jnp.where(rows > 0, rows, 1 * (rows < 0)),
            rows * rows,
        ]
        some += [jnp.floor((rows + 0.5) * 3 / 4), jnp.maximum(rows, 1) + rows]
        some += [
            jnp.broadcast_to(jnp.arange(4), (3, 4)),
            jnp.minimum(rows, 1).reshape(4, 3).astype(jnp.float32),
        ]
        sums = [x * lax.stop_gradient(one).sum() for one in some]
        return jnp.sum(jnp.stack(sums))

    program = traced(fn, jnp.ones(2))
    numbers, known, seen = KnownNumbers(program), {}, set()
    for operation in program.operations:
        atoms = operation.inputs
        inputs = [known.get(a) if isinstance(a, int) else a.val for a in atoms]
        if any(x is None for x in inputs):
            continue
        (v,), params = operation.outputs, operation.eqn.params
        known[v] = operation.eqn.primitive.bind(*inputs, **params)
        found = numbers.of(v)
        if found is not None:
            assert found.dtype == known[v].dtype
            np.testing.assert_array_equal(found, known[v])
            seen.add(operation.eqn.primitive.name)
    assert seen == COMPUTED.keys()
    assert numbers.of(program.operands[0]) is None
