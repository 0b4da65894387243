"""What can be passed to an offloaded function, and how it answers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxswap
from jaxswap import KEEP, OFFLOAD, RECOMPUTE

W = jnp.linspace(-1.0, 1.0, 16).reshape(4, 4)
X = jnp.linspace(0.0, 1.0, 8).reshape(2, 4)


def mixed(value: jaxswap.Value) -> jaxswap.Action:
    return (OFFLOAD, RECOMPUTE, KEEP)[value.index % 3]


def assert_same(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert jnp.asarray(a).dtype == jnp.asarray(e).dtype
        if jnp.issubdtype(jnp.asarray(a).dtype, jax.dtypes.prng_key):
            a, e = jax.random.key_data(a), jax.random.key_data(e)
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


def check(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Compare value and gradient with plain JAX, eagerly and under `jit`."""
    wrapped = jaxswap.offload(fn, policy=mixed)
    expected = jax.value_and_grad(fn)(*args, **kwargs)
    assert_same(jax.value_and_grad(wrapped)(*args, **kwargs), expected)
    under_jit = jax.jit(
        lambda first: jax.value_and_grad(wrapped)(first, *args[1:], **kwargs)
    )
    assert_same(under_jit(args[0]), expected)


def test_keyword_and_other_arguments_are_passed_on() -> None:
    def fn(
        w: jax.Array, *, x: jax.Array, activation: str, times: int, bias: Any
    ) -> Any:
        assert isinstance(times, int)
        h = getattr(jnp, activation)(x @ w) * times
        return jnp.sum(h if bias is None else h + bias)

    check(fn, W, x=X, activation="tanh", times=3, bias=None)
    check(fn, W, x=X, activation="sin", times=1, bias=2.0)


def test_numpy_arrays_stay_numpy_arrays() -> None:
    def fn(w: jax.Array, rows: np.ndarray) -> jax.Array:
        assert isinstance(rows, np.ndarray)
        return jnp.sum(jnp.tanh(X @ w)[: rows.max()])

    check(fn, W, np.arange(2))


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_keys_masks_and_integers(make_key: Callable[[int], jax.Array]) -> None:
    def fn(w: jax.Array, key: jax.Array, mask: jax.Array, index: jax.Array) -> Any:
        dropped = jnp.where(jax.random.bernoulli(key, 0.5, X.shape), X @ w, 0.0)
        return jnp.sum(jnp.where(mask, dropped[:, index], 1.0))

    check(fn, W, make_key(0), jnp.array([[True, False]]), jnp.array([0, 3]))


def test_values_closed_over_are_differentiated() -> None:
    def outer(w: jax.Array, wrap: Callable[..., Any]) -> jax.Array:
        return wrap(lambda x: jnp.sum(jnp.tanh(x @ w) @ w))(X)

    expected = jax.grad(lambda w: outer(w, lambda f: f))(W)
    offloaded = lambda w: outer(w, lambda f: jaxswap.offload(f, policy=mixed))  # noqa: E731
    assert_same(jax.grad(offloaded)(W), expected)
    assert_same(jax.jit(jax.grad(offloaded))(W), expected)


def test_auxiliary_results_of_any_type() -> None:
    class Aux(NamedTuple):
        logits: jax.Array
        key: jax.Array
        number: jax.Array
        nothing: None

    def fn(w: jax.Array, key: jax.Array) -> tuple[jax.Array, Aux]:
        logits = jnp.tanh(X @ w)
        return jnp.sum(logits @ w), Aux(logits, key, jnp.arange(3), None)

    key = jax.random.key(1)
    expected = jax.value_and_grad(fn, has_aux=True)(W, key)
    wrapped = jax.value_and_grad(jaxswap.offload(fn, policy=mixed), has_aux=True)
    assert_same(wrapped(W, key), expected)
    assert_same(jax.jit(wrapped)(W, key), expected)


def test_gradients_of_several_arguments_and_of_unused_ones() -> None:
    def fn(w: jax.Array, unused: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(x @ w) @ w)

    expected = jax.grad(fn, (0, 1, 2))(W, W, X)
    wrapped = jax.grad(jaxswap.offload(fn, policy=mixed), (0, 1, 2))
    assert_same(wrapped(W, W, X), expected)
    assert_same(jax.jit(wrapped)(W, W, X), expected)


def test_without_differentiation_it_is_the_function() -> None:
    fn = lambda w: (jnp.tanh(w @ w), {"sum": w.sum()})  # noqa: E731
    wrapped = jaxswap.offload(fn, policy=mixed)
    assert_same(wrapped(W), fn(W))
    jaxpr = jax.make_jaxpr(wrapped)(W)
    assert "optimization_barrier" not in str(jax.jit(wrapped).lower(W).as_text())
    assert len(jaxpr.jaxpr.outvars) == 2


def test_donated_arguments() -> None:
    fn = lambda w: jnp.sum(jnp.tanh(X @ w) @ w)  # noqa: E731
    step = jax.jit(jax.grad(jaxswap.offload(fn, policy=mixed)), donate_argnums=0)
    assert_same(step(W + 0), jax.grad(fn)(W))


def test_decorator_bare_and_with_keywords() -> None:
    @jaxswap.offload
    def bare(w: jax.Array) -> jax.Array:
        """Doc."""
        return jnp.sum(w @ w)

    @jaxswap.offload(policy=OFFLOAD)
    def configured(w: jax.Array) -> jax.Array:
        """Doc."""
        return jnp.sum(w @ w)

    for fn in (bare, configured):
        assert fn.__doc__ == "Doc."
        assert_same(jax.grad(fn)(W), jax.grad(lambda w: jnp.sum(w @ w))(W))


def test_keywords_of_jax_checkpoint() -> None:
    def scaled(x: jax.Array, power: int, *, negate: bool) -> jax.Array:
        return jnp.sum(-(x**power) if negate else x**power)

    fn = jaxswap.offload(scaled, static_argnums=1, static_argnames=("negate",))
    assert jax.grad(fn)(jnp.float32(3), 2, negate=True) == -6
    wrong = jaxswap.offload(scaled, static_argnums=0)
    with pytest.raises(TypeError, match="argument 0 is in `static_argnums`"):
        jax.grad(wrong)(jnp.float32(3), 2, negate=True)
    unknown: Any = {"concrete": True}
    with pytest.raises(TypeError, match="`concrete`: it has no use here"):
        jaxswap.offload(scaled, **unknown)
    with pytest.raises(TypeError, match="it must hold shardings"):
        jaxswap.offload(scaled, in_shardings=5)


def test_branching_on_a_value_says_what_to_do() -> None:
    def fn(w: jax.Array) -> jax.Array:
        return jnp.sum(w) if w.sum() > 0 else -jnp.sum(w)

    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        jax.grad(jaxswap.offload(fn))(W)
    assert any("Use jnp.where or jax.lax.cond" in n for n in caught.value.__notes__)


@pytest.mark.parametrize("fn", [3, "loss", [jnp.sin]])
def test_only_functions_can_be_offloaded(fn: Any) -> None:
    with pytest.raises(TypeError, match="needs a function"):
        jaxswap.offload(fn)


def test_mutable_arrays_are_refused() -> None:
    def fn(w: jax.Array) -> jax.Array:
        total = jax.new_ref(jnp.zeros(()))
        total[...] += jnp.sum(w)
        return total[...]

    with pytest.raises(NotImplementedError, match="mutable arrays"):
        jaxswap.offload(fn)(W)


def test_compiler_options_are_accepted_by_jit() -> None:
    options: Any = jaxswap.compiler_options()
    grad = jax.jit(jax.grad(lambda w: jnp.sum(w @ w)), compiler_options=options)
    assert_same(grad(W), jax.grad(lambda w: jnp.sum(w @ w))(W))


@pytest.mark.parametrize("is_jitted", [False, True])
def test_callbacks_beside_swaps_run_or_are_explained(is_jitted: bool) -> None:
    seen: list[float] = []

    def grad(ordered: bool, policy: Any) -> Any:
        def fn(w: jax.Array) -> jax.Array:
            h = jnp.tanh(X @ w)
            jax.debug.callback(
                lambda x: seen.append(float(x)), h[0, 0], ordered=ordered
            )
            return jnp.sum(jnp.tanh(h @ w))

        found = jax.grad(jaxswap.offload(fn, policy=policy))
        return jax.jit(found) if is_jitted else found

    for ordered, policy in ((False, OFFLOAD), (False, None), (True, RECOMPUTE)):
        grad(ordered, policy)(W)
        jax.effects_barrier()
    assert len(seen) == 3
    if is_jitted:
        with pytest.raises(NotImplementedError, match=r"debug_callback at .*ordered"):
            grad(True, OFFLOAD)(W)
    else:
        grad(True, OFFLOAD)(W)
