"""`check` tells right from wrong, and says what it was given."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from wrong_gradients import PARAMS, X, altered, loss, module

import jaxswap
from jaxswap import Action, GradientError, check


def test_right_gradient_is_reported_by_policy() -> None:
    report = check(loss, PARAMS, X, mixes=2)
    assert [row.policy for row in report.rows] == [
        "default",
        "OFFLOAD",
        "RECOMPUTE",
        "random mix 0 of seed 0",
        "random mix 1 of seed 0",
    ]
    assert all(row.worst.error <= row.worst.allowed == 1e-5 for row in report.rows)
    swaps = {row.policy: row.swaps for row in report.rows}
    assert swaps["OFFLOAD"] > 0 == swaps["RECOMPUTE"]
    assert (report.arrays, report.numbers, report.nonzero) == (2, 24, 24)


def test_report_is_a_table() -> None:
    head, columns, *rows = str(check(loss, PARAMS, X, mixes=0)).splitlines()
    assert head == (
        "`loss`: value and gradient are those of plain JAX (24 of 24 numbers in 2 "
        "arrays are finite and not zero)"
    )
    assert columns.split()[:2] == ["policy", "swaps"]
    assert [row.split()[0] for row in rows] == ["default", "OFFLOAD", "RECOMPUTE"]
    assert all("1.0e-05" in row for row in rows)


@pytest.mark.parametrize(
    "change",
    [
        lambda g: g * 1.0001,
        lambda g: g.at[0, 0].add(1e-3 * jnp.max(jnp.abs(g))),
        lambda g: g[::-1],
        lambda g: jnp.zeros_like(g),
        lambda g: g.at[1, 1].set(jnp.nan),
        lambda g: g.at[1, 1].set(jnp.inf),
    ],
)
def test_wrong_gradient_is_an_error(
    change: Callable[[jax.Array], jax.Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "offload", altered(change))
    with pytest.raises(GradientError, match="under the policy `default`") as caught:
        check(loss, PARAMS, X)
    error = caught.value
    assert isinstance(error, AssertionError)
    assert error.leaf.startswith("gradient of args[")
    assert error.difference > error.allowed
    assert error.options == {}


def test_error_names_what_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def offload(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        is_random = callable(options.get("policy"))
        return altered(lambda g: g * 2)(fn) if is_random else fn

    monkeypatch.setattr(module, "offload", offload)
    with pytest.raises(GradientError, match="random mix 0 of seed 7") as caught:
        check(loss, PARAMS, X, seed=7)
    policy = caught.value.options["policy"]
    value = jaxswap.Value(3, 64, (4, 4), np.dtype("float32"), "tanh")
    assert policy(value) is module.random_mix(7, 0)(value)


def test_wrong_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        return lambda x: fn(x) + jax.lax.stop_gradient(0.001 * fn(x))

    monkeypatch.setattr(module, "offload", offload)
    with pytest.raises(GradientError, match="the value is not that of plain JAX"):
        check(lambda x: {"a": jnp.sum(jnp.sin(x))}["a"], X)


def test_wrong_auxiliary_result_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def wrong(x: jax.Array) -> Any:
            value, aux = fn(x)
            return value, {"count": aux["count"] + 1}

        return wrong

    def with_count(x: jax.Array) -> Any:
        return jnp.sum(x**2), {"count": jnp.sum(x > 1)}

    check(with_count, X, has_aux=True, mixes=0)
    monkeypatch.setattr(module, "offload", offload)
    with pytest.raises(GradientError, match=r"auxiliary result\['count'\]"):
        check(with_count, X, has_aux=True)


def test_other_structure_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "offload", lambda fn: lambda x: {"a": fn(x)})
    with pytest.raises(GradientError, match="structure of the result"):
        check(jnp.sin, X)


def test_results_of_any_kind() -> None:
    def fn(x: jax.Array, *, scale: jax.Array, kind: str, n: int) -> Any:
        assert kind == "tree"
        h = jnp.tanh(x * scale)
        return {"h": [h] * n, "places": jnp.argmax(h), "key": jax.random.key(0)}

    report = check(fn, np.asarray(X), scale=jnp.float32(2.0), kind="tree", n=2)
    assert report.arrays == 2


def test_complex_arguments_have_a_gradient() -> None:
    report = check(
        lambda z: jnp.sum(jnp.abs(z * z * z)), jax.lax.complex(X, -X), mixes=1
    )
    assert (report.arrays, report.nonzero) == (1, 8)


def test_argnums_choose_what_is_differentiated() -> None:
    assert check(loss, PARAMS, X, argnums=0, mixes=0).arrays == 1
    assert check(loss, PARAMS, X, argnums=(0, -1), mixes=0).arrays == 2
    assert check(lambda x, y: x * y, 2.0, X, argnums=0, mixes=0).numbers == 1


def test_nan_may_stand_where_plain_has_it() -> None:
    report = check(lambda x: jnp.sum(jnp.sqrt(x)), jnp.array([0.0, -1.0, 4.0]), mixes=1)
    assert report.nonzero == 1


def test_gradient_of_zeros_is_not_hidden() -> None:
    report = check(lambda x: jnp.sum(jnp.round(x)), X, mixes=0)
    assert report.nonzero == 0
    assert "(0 of 8 numbers in 1 arrays are finite" in str(report)


@pytest.mark.parametrize(
    "options", [{"policy": Action.KEEP}, {"policy": jaxswap.LMS()}]
)
def test_own_policy_comes_first(options: dict[str, Any]) -> None:
    report = check(loss, PARAMS, X, mixes=0, **options)
    assert [row.policy for row in report.rows] == ["policy", "OFFLOAD", "RECOMPUTE"]


def test_own_plan_comes_first() -> None:
    plan = jaxswap.plan(loss, PARAMS, X, target="h100", compile=False, progress=False)
    report = check(loss, PARAMS, X, plan=plan, mixes=0)
    assert (report.rows[0].policy, report.arrays) == ("plan", 1)


# --- bad input ------------------------------------------------------------------------


def test_something_that_is_no_function_is_refused() -> None:
    bad: Any = 3
    with pytest.raises(TypeError, match=r"`fn` is 3; jaxswap\.check needs a function"):
        check(bad, X)


@pytest.mark.parametrize("args", [(), (jnp.arange(3),), (1.0, "text")])
def test_nothing_to_differentiate_is_refused(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="no argument to differentiate"):
        check(lambda *args: jnp.float32(0.0), *args)


def test_nothing_to_differentiate_in_the_result_is_refused() -> None:
    with pytest.raises(TypeError, match="returns nothing that can be differentiated"):
        check(lambda x: jnp.argmax(x), X)


def test_function_without_a_gradient_is_told_from_a_wrong_one() -> None:
    def endless(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: jnp.sum(x) > 1, lambda x: x / 2, x)

    with pytest.raises(ValueError, match="Reverse-mode") as caught:
        check(endless, X)
    assert "this is `fn` itself, in plain JAX" in caught.value.__notes__[-1]


def test_failure_of_the_transform_says_under_which_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def fails(x: jax.Array) -> jax.Array:
            raise RuntimeError("no")

        return fails

    monkeypatch.setattr(module, "offload", offload)
    with pytest.raises(RuntimeError, match="no") as caught:
        check(jnp.sin, X)
    assert caught.value.__notes__[-1].endswith("under the policy `default`.")


def test_argnums_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`argnums` is 2, but .* 2 positional"):
        check(loss, PARAMS, X, argnums=2)


def test_argnums_of_integers_are_refused() -> None:
    with pytest.raises(
        TypeError, match=r"`argnums` names args\[1\], which holds int32"
    ):
        check(lambda x, n: x * n, X, jnp.ones((), jnp.int32), argnums=(0, 1))


def test_types_instead_of_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match=r"args\[0\] is a type; .* needs arrays"):
        check(jnp.sin, jax.ShapeDtypeStruct((3,), jnp.float32))


def test_negative_mixes_are_refused() -> None:
    with pytest.raises(ValueError, match="`mixes` is -1"):
        check(loss, PARAMS, X, mixes=-1)
