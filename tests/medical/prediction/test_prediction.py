"""Volumes are predicted whole, mirrored, larger than in training, or by windows."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxswap.medical.data.label_maps import make_label_map
from jaxswap.medical.networks.objective import labels_in_slabs, labels_of
from jaxswap.medical.prediction import device_room
from jaxswap.medical.prediction.prediction import Predictor

TISSUE = make_label_map("tissue", {"grey": 3, "white": 5})
SHAPE = (4, 4, 4)


class Slope(nn.Module):
    """A network whose scores depend on the place, so that mirroring shows."""

    multiple = 4

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.ones, (1, 3))
        place = jnp.linspace(0.0, 1.0, image.shape[1])[:, None, None, None]
        return image * weight * place * jnp.array([1.0, -1.0, 0.5])


@pytest.fixture(autouse=True)
def _promotion() -> Any:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def parameters() -> Any:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return Slope().init(jax.random.key(0), jnp.ones((1, *SHAPE, 1)))


def _image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(*shape, 1)).astype(np.float32)


def _direct(parameters: Any, image: np.ndarray) -> np.ndarray:
    logits = Slope().apply(parameters, jnp.asarray(image[None]))
    return np.asarray(jax.nn.softmax(logits)[0, ..., 1:])  # type: ignore[arg-type]


def test_a_whole_volume_is_mirrored_and_averaged(parameters: Any) -> None:
    image = _image(*SHAPE)
    predictor = Predictor(Slope(), TISSUE, SHAPE, is_whole=True, mirror_axes=(0,))
    turned = _direct(parameters, image[::-1])[::-1]
    expected = (_direct(parameters, image) + turned) / 2
    assert np.abs(expected - turned).max() > 0.01
    found = predictor.probabilities(parameters, image)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_volume_larger_than_in_training_gets_its_own_program(parameters: Any) -> None:
    predictor = Predictor(Slope(), TISSUE, SHAPE, is_whole=True)
    image = _image(8, 4, 3)
    found = predictor.probabilities(parameters, image)
    padded = np.pad(image, ((0, 0), (0, 0), (0, 1), (0, 0)))
    expected = _direct(parameters, padded)[:, :, :3]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert predictor.note(image.shape[:3]) == (
        "is larger than the 4x4x4 voxels of training; the network was compiled for "
        "8x4x4."
    )
    assert predictor.note((4, 3, 4)) == ""


def test_a_volume_that_does_not_fit_is_predicted_by_windows(
    parameters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _image(8, 4, 4)
    windows = Predictor(Slope(), TISSUE, SHAPE, is_whole=False)
    expected = windows.probabilities(parameters, image)
    monkeypatch.setattr(device_room, "room_bytes", lambda: 10)
    predictor = Predictor(Slope(), TISSUE, SHAPE, is_whole=True)
    found = predictor.probabilities(parameters, image)
    np.testing.assert_array_equal(found, expected)
    assert "8x4x4 do not fit on the device, so it was predicted by windows" in (
        predictor.note(image.shape[:3])
    )


def test_a_device_that_runs_out_of_memory_ends_in_windows(parameters: Any) -> None:
    predictor = Predictor(Slope(), TISSUE, SHAPE, is_whole=True)
    apply = predictor._applied
    seen = []

    def failing(function: Any, parameters: Any) -> Any:
        def call(images: np.ndarray) -> Any:
            seen.append(images.shape[1:4])
            if images.shape[1] > 4:
                raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return apply(function, parameters)(images)

        return call

    predictor._applied = failing  # type: ignore[method-assign]
    assert predictor.probabilities(parameters, _image(8, 4, 4)).shape == (8, 4, 4, 2)
    assert seen[0] == (8, 4, 4)
    assert set(seen[1:]) == {SHAPE}


class Blurred(nn.Module):
    """A network whose scores depend on neighbours, and on the mean of the volume."""

    multiple = 4

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        image = nn.relu(nn.GroupNorm(2)(nn.Conv(4, (3, 3, 3))(image)))
        return nn.Conv(3, (3, 3, 3))(image)


@pytest.mark.parametrize("shape", [(24, 4, 4), (32, 4, 4)])
def test_a_volume_that_does_not_fit_is_computed_by_slabs(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(Blurred(), TISSUE, (24, 4, 4), is_whole=True)
    image = _image(*shape)
    parameters = Blurred().init(jax.random.key(1), jnp.ones((1, *shape, 1)))
    expected = predictor.probabilities(parameters, image)

    def too_large(*_: Any) -> Any:
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    predictor = Predictor(Blurred(), TISSUE, (24, 4, 4), is_whole=True)
    monkeypatch.setattr(predictor, "_probabilities", jax.jit(too_large))
    found = predictor.probabilities(parameters, image)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    own = "x".join(map(str, shape))
    assert predictor.note(shape).endswith(
        f"{own} do not fit on the device at once, so it was computed by slabs."
    )


def test_labels_of_slabs_are_those_of_the_whole() -> None:
    scores = np.random.default_rng(1).dirichlet([1, 1, 1], (19, 4, 4))
    found = np.asarray(scores[..., 1:], np.float32)
    labels = labels_in_slabs(found, TISSUE)
    assert set(np.unique(labels)) == {0, 3, 5}
    best = np.argmax(scores, -1)
    np.testing.assert_array_equal(labels, np.array([0, 3, 5], np.uint8)[best])
    on_device = np.asarray(labels_of(jnp.asarray(found), TISSUE))
    np.testing.assert_array_equal(labels, on_device)


def test_labels_are_decided_without_the_device() -> None:
    with jax.transfer_guard("disallow"):
        labels_in_slabs(np.full((2, 2, 2, 2), 0.4, np.float32), TISSUE)
        with pytest.raises(Exception, match="Disallowed"):
            _ = jnp.asarray(np.ones(2, np.float32)) + 1
