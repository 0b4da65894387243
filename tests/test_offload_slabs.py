"""`slabs` on `offload` and `plan`."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jaxswap
import jaxswap.linen
from jaxswap import Action, Slabs

Array = jax.Array
KERNELS = [
    jax.random.normal(jax.random.key(i), (3, 3, channels, 2)) / 5
    for i, channels in enumerate((2, 2, 2))
]
X = jax.random.normal(jax.random.key(9), (1, 16, 6, 2))
SLABS = Slabs(count=4, recomputed=1, swapped=0)


def loss(kernels: list[Array], x: Array) -> Array:
    for kernel in kernels:
        axes = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=axes
        )
        x = jnp.tanh(x - x.mean((1, 2), keepdims=True))
    return jnp.sum(x[..., 0] ** 2)


def assert_equals_plain(fn: Callable[..., Any]) -> Any:
    """Expect the value and gradient of `loss`. Return the compiled step."""
    step = jax.jit(jax.value_and_grad(fn, (0, 1)))
    found = jax.tree.leaves(step(KERNELS, X))
    wanted = jax.tree.leaves(jax.jit(jax.value_and_grad(loss, (0, 1)))(KERNELS, X))
    for a, e in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-5)
    return step


def loops_in(fn: Callable[..., Any]) -> int:
    """How many loops value and gradient have."""
    text = str(jax.make_jaxpr(jax.value_and_grad(fn))(KERNELS, X))
    return text.count("scan[")


@pytest.mark.usefixtures("own_folders")
@pytest.mark.parametrize("policy", [None, Action.KEEP, Action.OFFLOAD])
def test_gradient_by_slabs_is_that_of_the_function(policy: Action | None) -> None:
    fn = jaxswap.offload(loss, slabs=SLABS, policy=policy)
    assert_equals_plain(fn)
    assert loops_in(fn) > 4
    assert float(fn(KERNELS, X)) == pytest.approx(float(loss(KERNELS, X)))


def test_a_function_that_is_not_differentiated_runs_by_slabs() -> None:
    # Logits of a volume, as for a prediction.
    network = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, nn.Conv(2, (3, 3))])
    variables = network.init(jax.random.key(0), X)
    predict: Callable[..., Any] = jax.jit(jaxswap.offload(network.apply, slabs=SLABS))
    wanted: Any = network.apply(variables, X)
    found = predict(variables, X)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert str(jax.make_jaxpr(predict)(variables, X)).count("scan[") == 1


@pytest.mark.usefixtures("own_folders")
def test_a_plan_holds_its_slabs(tmp_path: pathlib.Path) -> None:
    options: dict[str, Any] = dict(target="h100", compile=False, progress=False)
    plan = jaxswap.plan(loss, KERNELS, X, argnums=(0, 1), slabs=SLABS, **options)
    assert plan.slabs == SLABS
    loaded = jaxswap.load_plan(plan.save(tmp_path / "plan.json"))
    assert loaded.slabs == SLABS
    assert_equals_plain(jaxswap.offload(loss, plan=loaded))
    text = str(plan)
    assert "4 of 4 planes along the longest axis of 16, on the finest level, 1" in text
    assert "sweeps over all slabs take" in text
    whole = jaxswap.plan(loss, KERNELS, X, argnums=(0, 1), **options)
    assert whole.slabs is None
    assert "sweeps" not in str(whole)
    assert plan.plain.device_bytes == whole.plain.device_bytes
    assert plan.graph.slab_facts is not None
    made = [v for sweep in plan.graph.slab_facts.sweeps for v in sweep.outputs]
    labels = {plan.graph.values[v].label for v in made}  # As where nothing is cut.
    assert labels <= {value.label for value in whole.graph.values}


@pytest.mark.usefixtures("own_folders")
def test_a_step_planned_by_windows_is_that_of_plain(tmp_path: pathlib.Path) -> None:
    slabs = Slabs(count=4, recomputed=0, swapped=3)
    options: dict[str, Any] = dict(target="h100", compile=False, progress=False)
    plan = jaxswap.plan(loss, KERNELS, X, argnums=(0, 1), slabs=slabs, **options)
    assert plan.host_bytes > 3 * X.nbytes
    plan = jaxswap.load_plan(plan.save(tmp_path / "plan.json"))
    by_windows = jaxswap.offload(loss, plan=plan)
    assert_equals_plain(by_windows)
    optimizer = optax.sgd(0.1, momentum=0.9)

    def stepped(fn: Callable[..., Any]) -> Any:
        def step(kernels: Any) -> Any:
            gradient, _ = jax.grad(fn, (0, 1))(kernels, X)
            updates, _ = optimizer.update(gradient, optimizer.init(kernels))
            return optax.apply_updates(kernels, updates)

        return jax.jit(step)(KERNELS)

    for a, e in zip(stepped(by_windows), stepped(loss), strict=True):
        np.testing.assert_allclose(a, e, atol=1e-4)


def test_a_function_that_is_only_called_brings_windows_from_the_host() -> None:
    slabs = Slabs(count=4, recomputed=0, swapped=2)
    by_windows = jaxswap.offload(loss, budget="1GiB", target="h100", slabs=slabs)
    assert float(by_windows(KERNELS, X)) == pytest.approx(float(loss(KERNELS, X)))
    assert "swap_in" in jax.jit(by_windows).lower(KERNELS, X).as_text(debug_info=True)


@pytest.mark.usefixtures("own_folders")
def test_a_plan_finds_how_much_to_recompute() -> None:
    big = jax.ShapeDtypeStruct((1, 4096, 256, 2), jnp.float32)
    options: dict[str, Any] = dict(target="h100", compile=False, progress=False)
    roomy, tight = (
        jaxswap.plan(loss, KERNELS, big, slabs=Slabs(4), budget=budget, **options)
        for budget in (None, "smallest")
    )
    assert roomy.slabs == Slabs(4, recomputed=0, swapped=0)
    assert tight.slabs is not None
    assert tight.slabs.recomputed
    assert tight.device_bytes < roomy.device_bytes


@pytest.mark.usefixtures("own_folders")
def test_a_budget_is_planned_for_by_slabs() -> None:
    big = jax.ShapeDtypeStruct((1, 4096, 256, 2), jnp.float32)
    options: dict[str, Any] = dict(target="h100", compile=False, progress=False)
    plain = jaxswap.plan(loss, KERNELS, big, **options).plain.device_bytes
    budget = int(0.85 * plain)
    plan = jaxswap.plan(
        loss, KERNELS, big, slabs=Slabs(16, recomputed=1), budget=budget, **options
    )
    assert plan.device_bytes <= budget


@pytest.mark.usefixtures("own_folders")
def test_slabs_are_tried_where_nothing_else_fits() -> None:
    big = jax.ShapeDtypeStruct((1, 4096, 256, 2), jnp.float32)
    lines: list[str] = []
    options: dict[str, Any] = dict(
        target="h100", compile=False, progress=lines.append, search_seconds=0.5
    )
    plan = jaxswap.plan(loss, KERNELS, big, **options)
    assert plan.slabs is None
    assert not any("slabs" in line for line in lines)
    with pytest.raises(jaxswap.BudgetError) as refused:
        jaxswap.plan(loss, KERNELS, big, budget="1MiB", slabs=None, **options)
    budget = refused.value.smallest_bytes - 1
    cut = jaxswap.plan(loss, KERNELS, big, budget=budget, **options)
    assert cut.slabs is not None
    assert cut.device_bytes <= budget
    assert "trying 8 to 32 slabs on the finest level" in lines
    with pytest.raises(jaxswap.BudgetError) as refused:
        jaxswap.plan(loss, KERNELS, big, budget="1MiB", **options)
    assert refused.value.smallest_bytes <= budget


def of_rows(weights: Array, rows: Array, more: Array) -> Array:
    """A loss without a convolution: nothing tells which axis to cut."""
    y = jnp.tanh(rows @ weights) * more.T
    return jnp.sum((y - y.mean(0, keepdims=True)) ** 2)


@pytest.mark.usefixtures("own_folders")
def test_an_axis_is_named_for_each_argument(tmp_path: pathlib.Path) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(3, 2), (10, 3), (2, 10)]
    args = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    slabs = Slabs(count=4, axis=(None, 0, 1))
    options: dict[str, Any] = dict(target="h100", compile=False, progress=False)
    plan = jaxswap.plan(of_rows, *args, argnums=(0, 1, 2), slabs=slabs, **options)
    assert plan.graph.slab_facts is not None
    assert plan.graph.slab_facts.length == 10
    plan = jaxswap.load_plan(plan.save(tmp_path / "plan.json"))
    assert plan.slabs is not None
    assert plan.slabs.axis == (None, 0, 1)
    for by_slabs in (
        jaxswap.offload(of_rows, plan=plan),
        jaxswap.offload(of_rows, slabs=Slabs(4, axis=(None, 0))),
    ):
        found = jax.grad(by_slabs, (0, 1, 2))(*args)
        wanted = jax.grad(of_rows, (0, 1, 2))(*args)
        for a, e in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, e, atol=1e-5)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ((None, 0, 1, 1), r"for 4 arguments, but the function has 3"),
        ((None, 2), r"argument 1 holds an array of 2 dimensions"),
        ((0, 0), r"\[3, 10\] planes"),
    ],
)
def test_a_wrong_axis_is_refused(axis: tuple[int | None, ...], message: str) -> None:
    args = [jnp.ones(shape) for shape in [(3, 2), (10, 3), (2, 10)]]
    by_slabs = jaxswap.offload(of_rows, slabs=Slabs(4, axis=axis))
    with pytest.raises(ValueError, match=message):
        jax.grad(by_slabs)(*args)


@pytest.mark.usefixtures("own_folders")
def test_what_has_no_axis_to_cut_is_planned_as_before() -> None:
    def products(w: Array) -> Array:
        return jnp.sum(jnp.tanh(jnp.tanh(w @ w) @ w))

    w = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    options: dict[str, Any] = dict(target="h100", compile=False, progress=False)
    least = [
        jaxswap.plan(products, w, budget="smallest", slabs=slabs, **options)
        for slabs in ("auto", None)
    ]
    assert least[0].slabs is None
    assert least[0].device_bytes == least[1].device_bytes


def test_slabs_beside_a_plan_are_refused() -> None:
    plan = jaxswap.plan(loss, KERNELS, X, target="h100", compile=False, progress=False)
    with pytest.raises(ValueError, match="`plan` and `slabs` are given"):
        jaxswap.offload(loss, plan=plan, slabs=SLABS)


def test_what_is_no_slabs_is_refused() -> None:
    wrong: Any = 16
    with pytest.raises(TypeError, match="`slabs` is 16"):
        jaxswap.offload(loss, slabs=wrong)
    with pytest.raises(TypeError, match="`slabs` is 16"):
        jaxswap.plan(loss, KERNELS, X, slabs=wrong, target="h100", compile=False)


def test_without_a_convolution_there_is_no_axis() -> None:
    fn = jaxswap.offload(lambda x: jnp.sum(x**2), slabs=SLABS)
    with pytest.raises(ValueError, match="no convolution that tells which axis"):
        jax.grad(fn)(X)


def test_an_axis_that_is_not_there_is_refused() -> None:
    fn = jaxswap.offload(loss, slabs=Slabs(axis=4))
    with pytest.raises(ValueError, match="`axis` is 4, but the features"):
        jax.grad(fn)(KERNELS, X)


@pytest.mark.skipif(len(jax.devices()) < 2, reason="one device")
def test_a_mesh_is_refused() -> None:
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    split = jax.sharding.NamedSharding(mesh, jax.P("data"))
    fn = jaxswap.offload(loss, slabs=SLABS, in_shardings=(None, split))
    with pytest.raises(NotImplementedError, match="split over several devices"):
        jax.grad(fn)(KERNELS, jnp.concatenate([X, X]))


def test_a_flax_module_runs_by_slabs() -> None:
    network = jaxswap.linen.offload(nn.Conv, slabs=SLABS)(2, (3, 3))
    variables = network.init(jax.random.key(0), X)

    def gradient(module: nn.Module) -> Any:
        def total(variables: Any) -> Array:
            logits: Any = module.apply(variables, X)
            return jnp.sum(jnp.tanh(logits) ** 2)

        return jax.jit(jax.grad(total))(variables)

    found, wanted = gradient(network), gradient(nn.Conv(2, (3, 3)))
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-5)
