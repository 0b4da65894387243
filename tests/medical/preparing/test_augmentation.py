import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from jax import Array

from jaxswap.medical.preparing import augmentation
from jaxswap.medical.preparing.augment_config import AugmentConfig
from jaxswap.medical.preparing.augmentation import Augment, augment, make_augment

PROBABILITIES = [
    field.name
    for field in dataclasses.fields(AugmentConfig)
    if field.name.endswith("_probability") and field.name != "channel_probability"
]


def with_probabilities(probability: float) -> AugmentConfig:
    settings: dict[str, Any] = dict.fromkeys(PROBABILITIES, probability)
    return AugmentConfig(**settings)


NOTHING, EVERYTHING = with_probabilities(0.0), with_probabilities(1.0)
SHAPE = (9, 8, 7)


def only(**settings: Any) -> AugmentConfig:
    return dataclasses.replace(NOTHING, **settings)


def case(
    shape: tuple[int, int, int] = SHAPE, channels: int = 2, dtype: Any = jnp.float32
) -> tuple[Array, Array]:
    """Intensities of a box with zeros around, and labels 0, 1, 2 and 4 inside it."""
    rng = np.random.default_rng(0)
    inside = np.zeros(shape, bool)
    inside[1:-1, 2:-1, 1:-2] = True
    image = rng.normal(size=(*shape, channels)) * inside[..., None]
    labels = rng.choice(np.array([0, 1, 2, 4]), shape) * inside
    return jnp.asarray(image, dtype), jnp.asarray(labels, jnp.uint8)


def keys(count: int) -> list[Array]:
    return list(jax.random.split(jax.random.key(0), count))


def test_nothing_changes_when_nothing_is_wanted() -> None:
    image, labels = case()
    changed = augment(jax.random.key(0), image, labels, NOTHING)
    assert np.array_equal(changed[0], image)
    assert np.array_equal(changed[1], labels)


def test_nothing_changes_when_everything_is_possible_but_not_drawn() -> None:
    # Small enough never to be drawn, yet all of the program is there.
    rare = with_probabilities(1e-30)
    image, labels = case()
    images, maps = make_augment(rare)(jax.random.key(0), image[None], labels[None])
    assert np.array_equal(images[0], image)
    assert np.array_equal(maps[0], labels)


@pytest.fixture(scope="module")
def repaint() -> Augment:
    """Makes every change of intensity, and mirrors now and then."""
    still = dict.fromkeys(["rotation_probability", "scaling_probability"], 0.0)
    config = dataclasses.replace(EVERYTHING, **still, mirror_probability=0.5)
    return make_augment(config, jnp.bfloat16)


def test_one_key_makes_one_change(repaint: Augment) -> None:
    image, labels = case()
    results = [repaint(key, image[None], labels[None]) for key in keys(3) + keys(3)]
    for first, again in zip(results[:3], results[3:], strict=True):
        assert np.array_equal(first[0], again[0])
        assert np.array_equal(first[1], again[1])
    assert len({np.asarray(images).tobytes() for images, _ in results}) == 3


def test_background_stays_exactly_zero(repaint: Augment) -> None:
    image, labels = case()
    background = jnp.where(jnp.any(image != 0, -1), 0, 1).astype(jnp.uint8)
    assert labels.shape == background.shape
    for key in keys(4):
        # As labels, the background is mirrored with the image.
        images, outside = repaint(key, image[None], background[None])
        assert not np.asarray(images)[np.asarray(outside, bool)].any()
        inside = np.asarray(images, np.float32)[~np.asarray(outside, bool)]
        assert np.mean(inside != 0) > 0.99


def test_an_empty_image_stays_empty(repaint: Augment) -> None:
    image, labels = jnp.zeros((1, *SHAPE, 2)), jnp.zeros((1, *SHAPE), jnp.uint8)
    assert not np.asarray(repaint(jax.random.key(0), image, labels)[0]).any()


def test_images_get_the_type_asked_for_and_labels_keep_theirs(repaint: Augment) -> None:
    image, labels = case()
    images, maps = repaint(jax.random.key(1), image[None], labels[None])
    assert images.dtype == jnp.bfloat16
    assert maps.dtype == jnp.uint8
    assert images.shape == (1, *image.shape)
    assert np.isfinite(np.asarray(images, np.float32)).all()
    # Statistics stay near those of the image, however much is changed.
    assert 0.3 < np.asarray(images, np.float32).std() / np.asarray(image).std() < 3


def test_compiles_once_for_all_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[None] = []

    def counted(*args: Any) -> tuple[Array, Array]:
        traced.append(None)
        return augment(*args)

    monkeypatch.setattr(augmentation, "augment", counted)
    change = make_augment(only(mirror_probability=0.5, scaling_probability=0.5))
    image, labels = case()
    for key in keys(4):
        change(key, image[None], labels[None])
    assert len(traced) == 1


def test_cases_of_a_batch_change_differently() -> None:
    image, labels = case()
    config = only(noise_probability=1.0)
    images, _ = make_augment(config)(
        jax.random.key(0), jnp.stack([image, image]), jnp.stack([labels, labels])
    )
    assert not np.array_equal(images[0], images[1])


def test_labels_follow_a_mirrored_image() -> None:
    image, labels = case()
    pattern = jnp.stack([labels.astype(jnp.float32)] * 2, -1)
    seen = set()
    change = make_augment(only(mirror_probability=0.5))
    for key in keys(30):
        images, maps = change(key, pattern[None], labels[None])
        assert np.array_equal(images[0, ..., 0], maps[0])
        for axes in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
            if np.array_equal(maps[0], np.flip(labels, axes)):
                seen.add(axes)
    assert len(seen) == 8
    assert image.shape == pattern.shape


def test_sides_are_kept_apart_when_the_first_axis_is_left_out() -> None:
    _, labels = case()
    side = jnp.zeros(SHAPE, jnp.uint8).at[:3].set(1)
    image = jnp.ones((*SHAPE, 1))
    change = make_augment(only(mirror_probability=1.0, mirror_axes=(1, 2)))
    _, maps = change(jax.random.key(0), image[None], side[None])
    assert np.array_equal(maps[0], side)
    _, maps = change(jax.random.key(0), image[None], labels[None])
    assert np.array_equal(maps[0], np.flip(labels, (1, 2)))


def test_no_axis_at_all_may_be_mirrored() -> None:
    image, labels = case()
    config = only(mirror_probability=1.0, mirror_axes=())
    assert np.array_equal(augment(jax.random.key(0), image, labels, config)[1], labels)


def test_labels_get_no_new_values_and_move_with_the_image() -> None:
    # A large smooth pattern, so that nearest and linear sampling nearly agree.
    places = np.indices((24, 24, 24)).sum(0)
    labels = jnp.asarray(np.where(places > 36, 4, 1) * (places > 24), jnp.uint8)
    image = labels.astype(jnp.float32)[..., None]
    change = make_augment(only(rotation_probability=1.0, scaling_probability=1.0))
    for key in keys(4):
        images, maps = change(key, image[None], labels[None])
        assert set(np.unique(maps)) <= {0, 1, 4}
        assert not np.array_equal(maps[0], labels)
        assert (
            np.mean(np.abs(images[0, ..., 0] - np.asarray(maps[0], np.float32)) < 0.5)
            > 0.8
        )


@pytest.mark.parametrize(
    ("name", "probability"),
    [("noise", 0.1), ("brightness", 0.15), ("contrast", 0.15), ("gamma", 0.3)],
)
def test_changes_are_as_frequent_as_asked(name: str, probability: float) -> None:
    image, labels = case((4, 5, 5), 1)
    default = getattr(AugmentConfig(), f"{name}_probability")
    assert default == probability
    config = only(**{f"{name}_probability": default})
    frequency = np.mean(
        [not np.array_equal(c, image) for c in _many(image, labels, config)]
    )
    assert abs(frequency - probability) < 4 * np.sqrt(probability / 600)


@pytest.mark.parametrize("name", ["blur", "low_resolution"])
def test_half_of_the_channels_are_blurred(name: str) -> None:
    image, labels = case((6, 6, 6), 1)
    config = only(**{f"{name}_probability": 1.0, "low_resolution_scale": (0.5, 0.6)})
    frequency = np.mean(
        [not np.array_equal(c, image) for c in _many(image, labels, config)]
    )
    assert abs(frequency - 0.5) < 0.1


def test_brightness_lies_in_its_range_on_both_sides_of_one() -> None:
    image, labels = jnp.ones((4, 4, 4, 1)), jnp.zeros((4, 4, 4), jnp.uint8)
    config = only(brightness_probability=1.0, brightness=(0.9, 3.0))
    factors = _many(image, labels, config)[:, 0, 0, 0, 0]
    assert 0.9 <= factors.min() < 0.91
    assert 2.95 < factors.max() <= 3.0
    assert abs(np.mean(factors < 1) - 0.5) < 0.1


def test_noise_is_as_strong_in_all_channels_but_not_the_same() -> None:
    image, labels = jnp.ones((16, 16, 16, 3)), jnp.zeros((16, 16, 16), jnp.uint8)
    config = only(noise_probability=1.0, noise_deviation=(0.2, 0.6))
    change = make_augment(config)
    drawn = []
    for key in keys(6):
        noise = np.asarray(change(key, image[None], labels[None])[0][0] - 1)
        drawn.append(deviations := noise.std((0, 1, 2)))
        assert np.ptp(deviations) < 0.05 * deviations.mean()
        assert (
            abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.1
        )
    assert np.min(drawn) > 0.19
    assert np.max(drawn) < 0.62
    assert np.ptp([d.mean() for d in drawn]) > 0.05


def _many(image: Array, labels: Array, config: AugmentConfig) -> np.ndarray:
    """600 changes of one image."""
    count = 600
    images = jnp.broadcast_to(image, (count, *image.shape))
    maps = jnp.broadcast_to(labels, (count, *labels.shape))
    return np.asarray(make_augment(config)(jax.random.key(7), images, maps)[0])


def test_lists_from_yaml_become_tuples() -> None:
    values = yaml.safe_load("{scaling: [0.9, 1], mirror_axes: [2, 1], gamma: [1, 1]}")
    config = AugmentConfig(**values)
    assert config == AugmentConfig(
        scaling=(0.9, 1.0), mirror_axes=(1, 2), gamma=(1.0, 1.0)
    )
    again = yaml.safe_load(yaml.safe_dump(_lists(config)))
    assert AugmentConfig(**again) == config
    assert hash(config) == hash(AugmentConfig(**again))


def _lists(config: AugmentConfig) -> dict[str, Any]:
    values = dataclasses.asdict(config)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rotation_probability": 1.5}, "`rotation_probability` is 1.5, not in 0..1"),
        ({"gamma_probability": "often"}, "`gamma_probability` holds 'often'"),
        ({"noise_probability": True}, "`noise_probability` holds True"),
        ({"blur_probability": float("nan")}, "`blur_probability` holds nan"),
        ({"rotation_degrees": -1}, "`rotation_degrees` is -1, not in 0..180"),
        ({"scaling": (1.4, 0.7)}, "`scaling` is 1.4 to 0.7: the smallest comes first"),
        ({"scaling": (0, 1)}, "`scaling` starts at 0, but has to be positive"),
        ({"noise_deviation": (-1, 1)}, "`noise_deviation` starts at -1, .* 0 or more"),
        ({"gamma": 1.5}, "`gamma` is 1.5; it needs two numbers"),
        ({"gamma": "ab"}, "`gamma` is 'ab'; it needs two numbers"),
        ({"blur_voxels": (0.5, "1")}, "`blur_voxels` holds '1'"),
        ({"contrast": (0.5, float("inf"))}, "`contrast` holds inf"),
        ({"low_resolution_scale": (0.5, 2)}, "a coarser grid has at most 1 times"),
        ({"mirror_axes": (0, 3)}, r"`mirror_axes` is \(0, 3\)"),
        ({"mirror_axes": (0, 0)}, "different numbers among 0, 1 and 2"),
        ({"mirror_axes": 1}, "`mirror_axes` is 1"),
        ({"mirror_axes": (False,)}, "`mirror_axes`"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**settings)


IMAGE, LABELS = case()
KEY = jax.random.key(0)
Call = Callable[[], Any]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment(KEY, IMAGE[0], LABELS, NOTHING), r"`image` \(8, 7, 2\)"),
        (lambda: augment(KEY, IMAGE, LABELS[1:], NOTHING), r"`labels` \(8, 8, 7\)"),
        (
            lambda: augment(KEY, IMAGE.astype(jnp.int16), LABELS, NOTHING),
            "`image` is int16",
        ),
        (
            lambda: augment(KEY, IMAGE, LABELS.astype(jnp.float32), NOTHING),
            "`labels` are float32",
        ),
        (lambda: make_augment()(KEY, IMAGE, LABELS), "are not .batch"),
    ],
)
def test_cases_that_do_not_fit_are_refused(call: Call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
