"""`check` tells right from wrong, and rounding from mistakes."""

import dataclasses
import importlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxswap
from jaxswap import Action, GradientError, check
from jaxswap._run.reference import ComparedPolicy, Difference, Reference, distance

module = importlib.import_module("jaxswap._check")


def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(jnp.tanh(x @ params["w"]) @ params["w"]) ** 2)


PARAMS = {"w": jnp.linspace(-1.0, 1.0, 16).reshape(4, 4)}
X = jnp.linspace(0.5, 1.5, 8).reshape(2, 4)


def altered(change: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
    """In place of `offload`: the gradient of each argument is changed."""

    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        @jax.custom_vjp
        def same(x: jax.Array) -> jax.Array:
            return x

        same.defvjp(lambda x: (x, None), lambda _, g: (change(g),))
        return lambda *args: fn(*jax.tree.map(same, args))

    return offload


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


# --- rounding -------------------------------------------------------------------------


def cancelling(x: jax.Array) -> jax.Array:
    """Whose result is mostly rounding error."""
    return jnp.sum((x + 1e4) ** 2 - x**2 - 2e4 * x - 1e8) + 1e-4 * jnp.sum(x)


def reordered(x: jax.Array) -> jax.Array:
    return jnp.sum((x + 1e4) ** 2 - (x**2 + 2e4 * x + 1e8)) + 1e-4 * jnp.sum(x)


@pytest.mark.usefixtures("all_optimizations")
def test_rounding_is_no_mistake() -> None:
    """Two ways to compute the same that share few digits."""
    x = jnp.linspace(0.1, 1.3, 50)
    problem = module.Problem((x,), {}, None, False)
    reference = Reference(problem.step(cancelling), problem.operands)
    row = reference.compare("other", problem.step(reordered), {})
    assert row.worst.error > 1e-5
    assert row.widest == row.worst.allowed > 0.1


def test_report_says_where_rounding_hides_everything() -> None:
    row = ComparedPolicy("default", 0, Difference("value", 0.1, 0.5), 0.5)
    report = module.Check("loss", (row,), 1, 1, 1)
    assert "little was shown for default" in str(report)
    tight = dataclasses.replace(row, widest=1e-5)
    assert "little was shown" not in str(dataclasses.replace(report, rows=(tight,)))


@pytest.mark.parametrize(
    ("dtype", "allowed"), [("bfloat16", 3e-2), ("float16", 4e-3), ("float32", 1e-5)]
)
def test_allowance_follows_the_coarsest_type(dtype: str, allowed: float) -> None:
    def fn(x: jax.Array) -> jax.Array:
        inner = jax.jit(lambda x: jnp.sin(x.astype(dtype)).astype(jnp.float32))
        return jnp.sum(inner(x) * x)

    report = check(fn, X, mixes=0)
    worst = [row.worst for row in report.rows]
    further = [w.allowed - (w.plain_error or 0.0) for w in worst]
    assert further == pytest.approx([allowed] * len(worst))
    (one, *_) = check(fn, X, mixes=0, rtol=0.5).rows
    assert one.worst.allowed == pytest.approx(0.5 + (one.worst.plain_error or 0.0))


@pytest.mark.parametrize(
    ("error", "allowed", "share"),
    [
        (0.0, 0.0, 0.0),
        (0.0, 1e-5, 0.0),
        (5e-6, 1e-5, 0.5),
        (2e-5, 1e-5, 2.0),
        (0.5, 0.0, np.inf),
        (np.inf, 1e-5, np.inf),
        (np.inf, np.inf, 1.0),
        (0.5, np.inf, 1.0),
    ],
)
def test_above_one_a_difference_is_wrong(
    error: float, allowed: float, share: float
) -> None:
    assert Difference("value", error, allowed).share == pytest.approx(share)


def test_distance() -> None:
    one = np.array([1.0, -4.0], np.float32)
    assert distance(one, one) == 0.0
    assert distance(one + np.float32(1), one) == 0.25
    assert distance(one[:1], one) == np.inf
    assert distance(one.astype(np.float16), one) == np.inf
    assert distance(np.array([np.nan, 1]), np.array([np.nan, 1])) == 0.0
    assert distance(np.array([0.0, 1]), np.array([np.nan, 1])) == np.inf
    assert distance(np.array([np.nan, 1]), np.array([0.0, 1])) == np.inf
    assert distance(np.array([np.inf, 1]), np.array([-np.inf, 1])) == np.inf
    assert distance(np.zeros(2), np.zeros(2)) == 0.0
    assert distance(np.full(2, 1e-30), np.zeros(2)) == np.inf
    assert distance(jax.random.key(0), jax.random.key(0)) == 0.0
    assert distance(jax.random.key(1), jax.random.key(0)) > 0.0


# --- 16 bits --------------------------------------------------------------------------


def deep(dtype: Any) -> Callable[..., jax.Array]:
    """A loss that rounds to 16 bits many times."""

    def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        h = x.astype(dtype)
        for _ in range(6):
            h = jnp.sin(2 * (h @ params["w"].astype(dtype)))
        return jnp.sum(h.astype(jnp.float32) ** 2)

    return loss


def rounding_elsewhere(dtype: Any) -> Callable[..., Any]:
    """In place of `offload`: each product is rounded once more on its way."""

    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
            h = x.astype(dtype)
            for _ in range(6):
                half = (h @ (params["w"] * 0.7).astype(dtype)) * 2
                h = jnp.sin(half + 2 * (h @ (params["w"] * 0.3).astype(dtype)))
            return jnp.sum(h.astype(jnp.float32) ** 2)

        return loss

    return offload


WIDE = {"w": jax.random.normal(jax.random.key(0), (8, 8)) / 3}
ROWS = jax.random.normal(jax.random.key(1), (64, 8))


def test_in_16_bits_both_distances_from_float32_are_reported() -> None:
    report = check(deep(jnp.bfloat16), WIDE, ROWS, mixes=1)
    for row in report.rows:
        plain = row.worst.plain_error
        assert plain is not None
        assert plain > 1e-4
        assert row.worst.error <= row.worst.allowed
    head, columns, *rows = str(report).splitlines()
    assert "value and gradient are as near to float32 as plain JAX" in head
    assert re.split("  +", columns)[2:5] == ["from float32", "plain's", "allowed"]
    assert [row.split()[0] for row in rows[:3]] == ["default", "OFFLOAD", "RECOMPUTE"]
    assert report.without_float32 == ""


@pytest.mark.usefixtures("all_optimizations")
def test_in_16_bits_rounding_elsewhere_passes_though_it_differs_from_plain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss, other = deep(jnp.bfloat16), rounding_elsewhere(jnp.bfloat16)
    problem = module.Problem((WIDE, ROWS), {}, None, False)
    plain = jax.jit(problem.step(loss))(*problem.operands)
    found = jax.jit(problem.step(other(loss)))(*problem.operands)
    name = "args[0]['w']"
    difference = distance(found["gradient"][name], plain["gradient"][name])
    assert difference > 3e-2  # of rounding alone
    monkeypatch.setattr(module, "offload", other)
    assert check(loss, WIDE, ROWS, mixes=0).rows


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("change", [lambda g: g * 1.5, jnp.zeros_like])
def test_wrong_gradient_is_an_error_in_each_type(
    dtype: Any,
    change: Callable[[jax.Array], jax.Array],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        changed = altered(change)(lambda w, x: fn({"w": w}, x))
        return lambda params, x: changed(params["w"], x)

    monkeypatch.setattr(module, "offload", offload)
    with pytest.raises(GradientError, match="rounding explains") as caught:
        check(deep(dtype), WIDE, ROWS)
    error = caught.value
    assert error.leaf.startswith("gradient of args[")
    assert error.difference > error.allowed
    assert (error.plain_difference is None) == (dtype == jnp.float32)
    assert ("from float32 by" in str(error)) == (dtype != jnp.float32)


def test_a_function_that_float32_cannot_compute_is_compared_with_plain() -> None:
    def fn(x: jax.Array) -> jax.Array:
        kind = jax.ShapeDtypeStruct((), jnp.bfloat16)
        scale = jax.pure_callback(lambda: np.ones((), jnp.bfloat16), kind)
        return jnp.sum(jnp.sin(x.astype(jnp.bfloat16)) * jax.lax.stop_gradient(scale))

    report = check(fn, X, mixes=0)
    assert {row.worst.plain_error for row in report.rows} == {None}
    assert "`pure_callback`" in report.without_float32
    assert str(report).splitlines()[-1].startswith("compared with plain JAX alone: ")


def test_integers_beside_16_bits_must_be_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fn(x: jax.Array) -> Any:
        return jnp.sum(x.astype(jnp.bfloat16) ** 2), jnp.arange(3)

    def offload(fn: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        return lambda x: (fn(x)[0], fn(x)[1] + 1)

    check(fn, X, has_aux=True, mixes=0)
    monkeypatch.setattr(module, "offload", offload)
    with pytest.raises(GradientError, match="auxiliary result") as caught:
        check(fn, X, has_aux=True)
    assert caught.value.plain_difference is None


def test_distance_from_the_truth() -> None:
    plain, truth = np.array([1.0, -4.0, 2.0]), np.array([1.0, -5.0, 2.0])
    assert distance(plain, plain, truth) == 0.2
    assert distance(plain + 1, plain, truth) == 0.4
    assert distance(plain, plain, np.zeros(3)) == 1.0
    overflowed = np.array([1.0, -np.inf, 2.0])
    assert distance(overflowed, overflowed, truth) == 0.0
    assert distance(plain, overflowed, truth) == np.inf
    assert distance(np.ones(2), np.ones(2), np.array([np.nan, 1])) == 0.0


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
