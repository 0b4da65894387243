"""The forms of a network's convolutions are chosen by what was timed."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxswap
from jaxswap.medical.networks import convolution_choice as choice
from jaxswap.medical.networks import fastest
from jaxswap.medical.networks.convolution_form import Form
from jaxswap.medical.networks.convolution_forms import PLAIN, forms_of
from jaxswap.medical.networks.convolution_kernel_forms import MosaicForm
from jaxswap.medical.networks.fastest import (
    convolutions_of,
    fastest_layers,
    in_fastest_forms,
    layers_in_forms,
    time_forms,
)
from jaxswap.medical.networks.layers import LEAN, TEXTBOOK
from jaxswap.medical.networks.unet import UNet3D

H200 = jaxswap.find_target("h200")
NETWORK = UNet3D(
    base_filters=4, depth=2, segmentation_levels=1, classes=2, dtype=jnp.float32
)
X = jax.ShapeDtypeStruct((1, 8, 8, 8, 3), jnp.float32)


@functools.cache
def parameters() -> Any:
    return jax.jit(NETWORK.init)(jax.random.key(0), jnp.ones(X.shape))


def timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> list[str]:
    """Let forms take so long. What is left out was not timed. Return what is asked."""
    asked: list[str] = []

    def operation_seconds(run: Any, *types: Any, **_: Any) -> float | None:
        form: Form = run.__self__
        asked.append(f"{form.name} {run.__name__}")
        return seconds.get(form.name, seconds.get(f"{form.name} {run.__name__}"))

    def kernel_seconds(run: Any, *types: Any, **_: Any) -> None:
        asked.append(f"{run.__self__.name} kernel of {run.__name__}")

    for name in ("operation_seconds", "program_seconds"):
        monkeypatch.setattr(choice, name, operation_seconds)
    monkeypatch.setattr(fastest, "operation_seconds", kernel_seconds)
    choice.passes_of.cache_clear()
    choice.passes_with_moments.cache_clear()
    return asked


def chosen() -> Any:
    x = jax.ShapeDtypeStruct((1, 8, 8, 8, 16), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 16, 16), jnp.bfloat16)
    return choice.passes_of("convolve", x, kernel, H200)


def test_each_pass_takes_the_form_that_was_fastest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = {"plain": 2.0, "reshaped2 forward": 1.0, "strided4 kernel_gradient": 1.5}
    timed(monkeypatch, {**times, "reshaped2 kernel_gradient": 1.8})
    passes = chosen()
    assert passes.forward.name == "reshaped2"
    assert passes.input_gradient.name == PLAIN
    assert passes.kernel_gradient.name == "strided4"


def with_moments() -> tuple[jax.Array, Any]:
    x = jax.ShapeDtypeStruct((1, 8, 8, 8, 16), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 16, 16), jnp.bfloat16)
    convolve = fastest_layers(H200).convolve_with_moments
    assert convolve is not None
    return jax.eval_shape(convolve, x, kernel)


PLAIN_IN_TWO_STEPS = {"plain forward": 2.0, "plain then_moments": 3.0}


@pytest.mark.parametrize(
    ("seconds", "is_chosen"),
    [
        ({**PLAIN_IN_TWO_STEPS, "triton with_moments": 2.9}, True),
        ({**PLAIN_IN_TWO_STEPS, "triton with_moments": 3.0}, False),
        (PLAIN_IN_TWO_STEPS, False),
        ({"plain forward": 2.0, "triton with_moments": 0.1}, False),
    ],
    ids=["faster", "as fast", "not timed", "nothing to compare with"],
)
def test_a_kernel_finds_moments_where_it_was_timed_to_be_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], is_chosen: bool
) -> None:
    timed(monkeypatch, seconds)
    y, moments = with_moments()
    assert y.shape == (1, 8, 8, 8, 16)
    if is_chosen:
        assert [m.shape for m in moments] == [(1, 1, 1, 1, 16)] * 2
    assert (moments is not None) == is_chosen


def test_kernels_that_find_moments_are_timed_beside_reductions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = timed(monkeypatch, {"plain": 2.0, "reshaped2 forward": 1.0})
    monkeypatch.setattr(fastest, "find_target", lambda: H200)
    monkeypatch.setattr(fastest, "is_right", lambda *_: True)
    time_forms(NETWORK, X)
    of_moments = {line for line in asked if line.endswith("moments")}
    assert of_moments == {
        "triton with_moments",
        "triton kernel of with_moments",
        "reshaped2 then_moments",
    }


def test_without_times_a_network_is_the_same_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed(monkeypatch, {})
    plain, packed = (
        jax.jit(NETWORK.clone(layers=layers).apply).lower(parameters(), X).as_text()
        for layers in (LEAN, fastest_layers(H200))
    )
    assert plain == packed


def test_kernels_that_find_moments_can_be_named() -> None:
    layers = layers_in_forms({"convolve": "triton"}, moments=True)
    text = str(jax.make_jaxpr(NETWORK.clone(layers=layers).apply)(parameters(), X))
    # Convolutions before a normalisation. The others are parts of a concatenation.
    assert text.count("name=convolve3d_with_moments") == 4
    assert text.count("name=convolve3d\n") == 2
    with pytest.raises(ValueError, match="'convolve' as 'triton', and it is 'plain'"):
        layers_in_forms({}, moments=True)


def test_nothing_is_chosen_where_the_plain_form_was_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = timed(monkeypatch, {"reshaped2": 1.0})
    assert chosen().forward.name == PLAIN
    assert {line.split()[0] for line in asked} == {PLAIN}


def test_the_network_stays_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, {"plain": 2.0, "reshaped2": 1.0, "paired": 1.0})
    x = jnp.asarray(np.random.default_rng(0).standard_normal(X.shape), X.dtype)

    def loss(network: UNet3D, parameters: Any) -> jax.Array:
        logits: Any = network.apply(parameters, x)
        return jnp.sum(logits**2)

    packed = NETWORK.clone(layers=fastest_layers(H200))
    plain = jax.jit(jax.grad(functools.partial(loss, NETWORK)))(parameters())
    step = jax.jit(jax.grad(functools.partial(loss, packed)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        step(parameters()),
        plain,
    )
    text = step.lower(parameters()).as_text()
    assert "tensor<1x8x8x4x8xf32>" in text  # two neighbours of four channels each


def test_every_convolution_of_a_network_is_found_once() -> None:
    found = [(kind, x.shape, k.shape) for kind, x, k in convolutions_of(NETWORK, X)]
    assert len(set(found)) == len(found)
    assert ("convolve", (1, 8, 8, 8, 3), (3, 3, 3, 3, 4)) in found
    assert ("convolve_strided", (1, 8, 8, 8, 4), (3, 3, 3, 4, 8)) in found
    assert ("convolve_upsampled", (1, 4, 4, 4, 8), (3, 3, 3, 8, 4)) in found


def test_all_candidates_of_all_passes_are_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = timed(monkeypatch, {})
    monkeypatch.setattr(fastest, "find_target", lambda: H200)
    monkeypatch.setattr(fastest, "is_right", lambda *_: True)
    assert time_forms(NETWORK, X) is H200
    for pass_name in ("forward", "input_gradient", "kernel_gradient"):
        for form in ("plain", "reshaped4", "strided2", "paired", "triton"):
            assert f"{form} {pass_name}" in asked


def test_many_channels_need_no_other_form() -> None:
    x = jax.ShapeDtypeStruct((1, 8, 8, 8, 128), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 128, 128), jnp.bfloat16)
    assert list(choice.candidates("convolve", x, kernel, H200)) == [PLAIN]


def test_kernels_are_candidates_for_gpus_that_run_them() -> None:
    x = jax.ShapeDtypeStruct((1, 8, 8, 7, 16), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 16, 16), jnp.bfloat16)
    older = dataclasses.replace(H200, compute_capability=(7, 5))
    assert list(choice.candidates("convolve", x, kernel, H200)) == [
        PLAIN,
        "triton",
    ]
    assert list(choice.candidates("convolve", x, kernel, older)) == [PLAIN]


def test_kernels_for_hopper_are_for_hopper_alone() -> None:
    major = [c for c in range(7, 13) if MosaicForm().runs_on((c, 0))]
    assert major == [9]


@dataclasses.dataclass(frozen=True)
class Untried(Form):
    """A form that no GPU has run yet."""

    @property
    def is_untried(self) -> bool:
        return True


def test_a_form_that_no_gpu_has_run_is_timed_if_that_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It wins nothing before, also where the plain form was timed."""
    asked = timed(monkeypatch, {"plain": 2.0})
    monkeypatch.setattr(fastest, "find_target", lambda: H200)
    monkeypatch.setattr(fastest, "is_right", lambda *_: True)
    plain = forms_of("convolve", X.shape, (3, 3, 3, 3, 4))[PLAIN]
    forms = {PLAIN: plain, "mosaic": Untried("mosaic", *dataclasses.astuple(plain)[1:])}
    for module in (fastest, choice):
        monkeypatch.setattr(module, "candidates", lambda *_: forms)
    time_forms(NETWORK, X)
    assert "mosaic forward" not in asked
    assert chosen().forward.name == PLAIN
    time_forms(NETWORK, X, untried=True)
    assert "mosaic forward" in asked


@pytest.mark.parametrize("is_right", [True, False])
def test_a_kernel_is_timed_if_its_result_is_right(
    monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    run: list[str] = []

    def operation_seconds(pass_of_form: Any, *_: Any, **options: Any) -> None:
        if options.get("target") is None:  # Otherwise it only looks up what is known.
            run.append(pass_of_form.__self__.name)

    for name in ("operation_seconds", "program_seconds"):
        monkeypatch.setattr(choice, name, operation_seconds)
    monkeypatch.setattr(fastest, "operation_seconds", operation_seconds)
    monkeypatch.setattr(fastest, "find_target", lambda: H200)
    monkeypatch.setattr(fastest, "is_right", lambda *_: is_right)
    time_forms(NETWORK.clone(dtype=jnp.bfloat16), X)
    assert PLAIN in run
    assert ("triton" in run) == is_right


@dataclasses.dataclass(frozen=True)
class Refused(Form):
    """A form that the device does not run."""

    def forward(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        raise jax.errors.JaxRuntimeError("too much shared memory")


@pytest.mark.parametrize("name", ["forward", "input_gradient", "kernel_gradient"])
def test_a_result_is_right_if_it_is_that_of_the_plain_form(name: str) -> None:
    x = jax.ShapeDtypeStruct((1, 4, 4, 4, 4), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 4, 4), jnp.bfloat16)
    forms = forms_of("convolve", x.shape, kernel.shape)
    plain = forms[PLAIN]
    wrong = dataclasses.replace(plain, spread=lambda kernel: 1.05 * kernel)
    assert choice.is_right(name, x, kernel, forms["reshaped2"], plain)
    assert not choice.is_right(name, x, kernel, wrong, plain)


def test_what_the_device_refuses_is_not_right() -> None:
    x = jax.ShapeDtypeStruct((1, 4, 4, 4, 4), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 4, 4), jnp.bfloat16)
    plain = forms_of("convolve", x.shape, kernel.shape)[PLAIN]
    refused = Refused("refused", plain.spread, plain.strides, plain.padding)
    assert not choice.is_right("forward", x, kernel, refused, plain)


def test_timing_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match="target="):
        time_forms(NETWORK, X)


def test_a_network_for_a_named_gpu_takes_what_is_known_of_it() -> None:
    assert in_fastest_forms(NETWORK, X, "h200").layers == fastest_layers(H200)


def test_a_network_for_the_gpu_at_hand_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = timed(monkeypatch, {})
    monkeypatch.setattr(fastest, "find_target", lambda: H200)
    monkeypatch.setattr(fastest, "is_right", lambda *_: False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert in_fastest_forms(NETWORK, X, None).layers == fastest_layers(H200)
    assert asked


def test_a_network_on_a_gpu_that_is_not_known_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert in_fastest_forms(NETWORK, X, None) is NETWORK


def test_on_a_cpu_and_with_layers_of_its_own_a_network_stays_as_it_is() -> None:
    assert in_fastest_forms(NETWORK, X, None) is NETWORK
    textbook = NETWORK.clone(layers=TEXTBOOK)
    assert in_fastest_forms(textbook, X, "h200") is textbook


def test_a_form_can_be_named() -> None:
    named = NETWORK.clone(layers=layers_in_forms({"convolve": "reshaped4"}))
    text = jax.jit(named.apply).lower(parameters(), X).as_text()
    assert "tensor<1x8x8x2x16xf32>" in text


def test_a_form_that_cannot_be_had_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'reshaped3'.*choose plain, reshaped2"):
        layers_in_forms({"convolve": "reshaped3"})


@pytest.mark.skipif(jax.__version_info__ >= (0, 12), reason="JAX has them")
def test_an_error_says_which_jax_has_kernels_in_mosaic() -> None:
    with pytest.raises(ValueError, match=r"'mosaic'.*choose plain, .*JAX 0\.12"):
        layers_in_forms({"convolve": "mosaic"})


def test_convolutions_that_cannot_take_a_named_form_are_plain() -> None:
    """Those of 1x1x1 voxels, of three channels, and those of another kind."""
    network = NETWORK.clone(layers=layers_in_forms({"convolve": "triton"}))
    text = str(jax.make_jaxpr(network.apply)(parameters(), X))
    all_plain = str(jax.make_jaxpr(NETWORK.apply)(parameters(), X))
    kernels, others = (text.count(name) for name in (" pallas_call[", "conv_general_"))
    assert kernels > 0
    assert others > 0
    assert kernels + others == all_plain.count("conv_general_")


def test_an_unknown_convolution_is_an_error() -> None:
    with pytest.raises(ValueError, match="'dilated'; choose convolve, "):
        layers_in_forms({"dilated": "plain"})


def test_layers_of_one_gpu_are_equal() -> None:
    assert fastest_layers(H200) == fastest_layers(H200)
    assert hash(fastest_layers(H200)) == hash(fastest_layers(H200))
