"""Whole programs by slabs: what is refused, what is inlined, numbers of few digits."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from slab_programs import check_by_slabs, executed, traced

from jaxswap._slabs.slabs import Slabs
from jaxswap._sweeps.slabbed import by_slabs

Array = jax.Array


def x_of(*shape: int) -> Array:
    return jax.random.normal(jax.random.key(0), shape)


def scanned(x: Array) -> Array:
    def step(carry: Array, y: Array) -> tuple[Array, Array]:
        return carry + y, carry * y

    return lax.scan(step, jnp.zeros(x.shape[1:]), x)[1]


REFUSED = {
    "cumsum": lambda x: jnp.cumsum(x, axis=0) ** 2,
    "sort": lambda x: lax.stop_gradient(jnp.sort(x, axis=0)) * x,
    "rev": lambda x: x[::-1] * jnp.cos(x),
    "concatenate": lambda x: jnp.concatenate([x[1:], x[:1]], axis=0) * x,
    "scan": scanned,
    "dynamic_slice": lambda x: x * lax.dynamic_index_in_dim(x, jnp.argmax(x[0])),
    "gather": lambda x: x[jnp.argsort(x[:, 0])] * 2,
    "scatter": lambda x: x.at[jnp.argmax(x[:, 0])].set(0) * 2,
    "reshape": lambda x: jnp.sin(x.reshape(3, -1).T.reshape(12, 3)) * x,
}
"""What cannot be computed by slabs, and the primitive that says so."""


@pytest.mark.usefixtures("lenient_promotion")
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_runs_whole_and_says_so(name: str) -> None:
    part = REFUSED[name]

    def loss(x: Array) -> Array:
        return jnp.sum(jnp.sin(part(jnp.tanh(x))) + x**2)

    slabbed = check_by_slabs(loss, [x_of(12, 3)], {0: 0})
    assert name in {reason.primitive for reason in slabbed.reasons}
    assert slabbed.sweeps  # The rest still runs by slabs.


def test_a_reason_names_the_line_of_the_program() -> None:
    def loss(x: Array) -> Array:
        return jnp.sum(lax.cumsum(jnp.sin(x), axis=0))

    slabbed = check_by_slabs(loss, [x_of(12, 3)], {0: 0})
    text = str(slabbed.reasons[0])
    assert text.startswith("cumsum at ")
    assert "test_slabbed.py" in text
    assert text.endswith("sums up what lies before, which runs along the sliced axis")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sums_of_few_digits_are_added_up_in_float32(dtype: jnp.dtype) -> None:
    # Parts that are rounded would each lose something.
    def total(x: Array) -> Array:
        return jnp.sum(x, dtype=x.dtype)

    x = jnp.full((64, 8), 0.501, dtype)
    program = traced(total, x)
    slabbed = by_slabs(program, Slabs(count=32), {program.operands[0]: 0})
    found, _ = executed(slabbed.program, [x])
    assert found == jnp.sum(x, dtype=jnp.float32).astype(dtype)


def test_a_function_with_its_own_gradient_is_written_out() -> None:
    @jax.custom_vjp
    def twice(x: Array) -> Array:
        return 2 * x

    twice.defvjp(lambda x: (2 * x, None), lambda _, c: (2 * c,))

    def loss(w: Array, mask: Array) -> Array:
        return jnp.sum(w * twice(mask).astype(w.dtype))  # not differentiated

    mask = jnp.arange(36).reshape(12, 3)
    slabbed = check_by_slabs(loss, [x_of(12, 3), mask], {0: 0})
    assert not slabbed.reasons


def test_barriers_do_not_keep_a_value_whole() -> None:
    def loss(x: Array) -> Array:
        x, mean = lax.optimization_barrier((x, jnp.mean(x)))
        return jnp.sum((x - mean) ** 2)

    slabbed = check_by_slabs(loss, [x_of(12, 3)], {0: 0})
    assert not slabbed.reasons
    names = [op.eqn.primitive.name for op in slabbed.program.operations]
    assert "optimization_barrier" not in names


def test_results_and_gradients_that_are_sliced_are_assembled() -> None:
    def fn(x: Array, y: Array) -> Array:
        return jnp.sum(jnp.sin(x) * y)

    slabbed = check_by_slabs(fn, [x_of(13, 3), x_of(13, 3)], {0: 0}, count=3)
    assert slabbed.described.lines.keys() >= set(slabbed.program.operands)
    assert len(slabbed.levels.assembled) == 2


def test_the_axis_is_the_longest_of_the_largest_convolution() -> None:
    def fn(x: Array, kernel: Array) -> Array:
        axes = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=axes)
        return jnp.sum(jnp.tanh(y))

    slabbed = check_by_slabs(fn, [x_of(1, 6, 14, 2), x_of(3, 3, 2, 2)], count=4)
    assert slabbed.described.lines[slabbed.program.operands[0]].dimension == 2
    assert slabbed.grid.length == 14


def test_without_a_convolution_the_axis_must_be_named() -> None:
    program = traced(lambda x: jnp.sum(x**2), x_of(8, 2))
    with pytest.raises(ValueError, match="no convolution that tells which axis"):
        by_slabs(program, Slabs())


def test_named_axes_have_one_length() -> None:
    program = traced(lambda x, y: jnp.sum(x) * jnp.sum(y), x_of(8, 2), x_of(9, 2))
    axes = dict.fromkeys(program.operands, 0)
    with pytest.raises(ValueError, match=r"\[8, 9\] planes"):
        by_slabs(program, Slabs(), axes)


def test_what_is_compared_with_its_extreme_is_stored() -> None:
    def loss(x: Array, w: Array) -> Array:
        y = jnp.tanh(x @ w) * jnp.exp(x @ w)  # not stored otherwise
        return jnp.sum(jnp.max(y, axis=0) * jnp.min(y, axis=0))

    slabbed = check_by_slabs(loss, [x_of(12, 3), x_of(3, 3)], {0: 0})
    (compared,) = slabbed.described.frame.compared
    assert any(compared in sweep.writes for sweep in slabbed.sweeps)


def test_a_sweep_begins_when_the_gradients_before_it_are_there() -> None:
    def convolved(x: Array, kernel: Array, stride: int = 1) -> Array:
        return lax.conv_general_dilated(
            x, kernel, (stride,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )

    def loss(x: Array, fine: Array, coarse: Array) -> Array:
        x = convolved(jnp.tanh(convolved(x, fine)), fine, stride=2)
        return jnp.sum(jnp.sin(convolved(jnp.tanh(x), coarse)))

    args = [x_of(1, 16, 2), x_of(3, 2, 2), x_of(3, 2, 2)]
    slabbed = check_by_slabs(loss, args)
    # Otherwise XLA would compute them last, and hold what they are made of.
    gradient = slabbed.program.gradients[2]
    (sweep,) = (op for op in slabbed.program.operations if gradient in op.outputs)
    assert sweep.scope.startswith("sweep")
    place = sweep.outputs.index(gradient)
    assert sweep.origins[place].eqn.primitive.name == "conv_general_dilated"


def test_half_of_an_axis_is_not_the_sliced_axis() -> None:
    def loss(x: Array) -> Array:
        return jnp.sum(x[:6] * x[6:])

    slabbed = check_by_slabs(loss, [x_of(12, 3)], {0: 0})
    assert {reason.primitive for reason in slabbed.reasons} >= {"slice"}


def test_a_split_axis_is_as_fine_as_before_it_was_split() -> None:
    """Pooled and repeated by reshapes, as users write it."""

    def loss(x: Array) -> Array:
        pooled = jnp.mean(jnp.sin(x).reshape(4, 2, 3) ** 2, axis=1)
        again = jnp.repeat(jnp.tanh(pooled), 2, axis=0)
        return jnp.sum(jnp.cos(x) * again)

    slabbed = check_by_slabs(loss, [x_of(8, 3)], {0: 0}, count=2)
    axes = slabbed.described.frame.axes
    sizes = {axis.planes: axis.is_fine for axis in axes.values() if axis.nbytes == 96}
    assert sizes == {8: True, 4: True}
    written = [axes[v].nbytes for sweep in slabbed.sweeps for v in sweep.writes]
    assert sorted(written) == [48, 48, 96]  # Both ways at half, and the gradient.
