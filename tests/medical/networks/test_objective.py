"""Losses of logits and label maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxswap.medical.data.label_maps import LABEL_MAPS, make_label_map
from jaxswap.medical.networks.objective import (
    LOSSES,
    class_count,
    class_weights,
    deeply_supervised_loss,
    labels_of,
    probabilities_of,
    segmentation_loss,
)

TUMOUR = LABEL_MAPS["brats2021"]
TISSUE = make_label_map("tissue", {"grey": 3, "white": 7})
LABELS = {
    "tumour": (TUMOUR, jnp.asarray([0, 1, 2, 4] * 16, jnp.uint8).reshape(1, 4, 4, 4)),
    "tissue": (TISSUE, jnp.asarray([0, 3, 7, 7] * 16, jnp.uint8).reshape(1, 4, 4, 4)),
}


def sure(name: str) -> jax.Array:
    """Logits that say exactly what the labels are."""
    label_map, labels = LABELS[name]
    regions = label_map.to_regions(labels)
    if label_map.is_exclusive:
        background = ~jnp.any(regions, -1, keepdims=True)
        regions = jnp.concatenate([background, regions], -1)
    return jnp.where(regions, 30.0, -30.0)


@pytest.mark.parametrize("name", LABELS)
def test_sure_and_right_logits_become_the_labels(name: str) -> None:
    label_map, labels = LABELS[name]
    probabilities = probabilities_of(sure(name), label_map)
    assert probabilities.shape == (*labels.shape, len(label_map.regions))
    np.testing.assert_array_equal(labels_of(probabilities, label_map), labels)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", LABELS)
def test_right_logits_have_the_least_loss(name: str, loss: str) -> None:
    label_map, labels = LABELS[name]
    right = float(segmentation_loss(sure(name), labels, label_map, loss))
    wrong = float(segmentation_loss(-sure(name), labels, label_map, loss))
    unsure = float(segmentation_loss(0 * sure(name), labels, label_map, loss))
    assert right == pytest.approx(-1, abs=1e-3)
    assert right < unsure < wrong


def test_cross_entropy_of_exclusive_labels_is_that_of_softmax() -> None:
    label_map, labels = LABELS["tissue"]
    logits = jax.random.normal(jax.random.key(0), (*labels.shape, 3))
    both = segmentation_loss(logits, labels, label_map, "dice_ce")
    dice = segmentation_loss(logits, labels, label_map, "dice")
    classes = np.searchsorted([0, 3, 7], np.asarray(labels))
    log = jax.nn.log_softmax(logits)
    expected = -jnp.mean(jnp.take_along_axis(log, classes[..., None], -1))
    assert float(both - dice) == pytest.approx(float(expected), rel=1e-5)


def test_levels_weigh_half_of_the_one_before_and_the_last_nothing() -> None:
    label_map, labels = LABELS["tumour"]
    fine, middle = sure("tumour"), sure("tumour")[:, ::2, ::2, ::2]
    coarse = middle[:, ::2, ::2, ::2]
    of = lambda *levels: float(deeply_supervised_loss(levels, labels, label_map))  # noqa: E731
    right, wrong = of(fine, middle, coarse), of(-fine, middle, coarse)
    single = float(segmentation_loss(-fine, labels, label_map))
    half = float(segmentation_loss(middle, labels[:, ::2, ::2, ::2], label_map))
    assert wrong == pytest.approx((single + 0.5 * half) / 1.5, rel=1e-5)
    assert of(fine, middle, -coarse) == pytest.approx(right)
    assert of(fine) == pytest.approx(float(segmentation_loss(fine, labels, label_map)))


def test_number_of_classes_counts_background_where_labels_exclude() -> None:
    assert (class_count(TUMOUR), class_count(TISSUE)) == (3, 3)


def test_what_does_not_fit_is_refused() -> None:
    label_map, labels = LABELS["tumour"]
    with pytest.raises(ValueError, match="`loss` is 'hinge'"):
        segmentation_loss(sure("tumour"), labels, label_map, "hinge")
    with pytest.raises(ValueError, match="`logits` have shape"):
        segmentation_loss(sure("tumour")[..., :2], labels, label_map)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", LABELS)
def test_equal_weights_are_no_weights(name: str, loss: str) -> None:
    label_map, labels = LABELS[name]
    logits = jax.random.normal(
        jax.random.key(1), (*labels.shape, class_count(label_map))
    )
    weights = class_weights(label_map, dict.fromkeys(label_map.regions, 3.0))
    if label_map.is_exclusive:
        weights = (3.0,) * class_count(label_map)
    plain = segmentation_loss(logits, labels, label_map, loss)
    weighted = segmentation_loss(logits, labels, label_map, loss, weights)
    np.testing.assert_allclose(weighted, plain, rtol=1e-5)
    deep = deeply_supervised_loss([logits], labels, label_map, loss, weights)
    np.testing.assert_allclose(deep, plain, rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", LABELS)
def test_only_classes_with_a_weight_count(name: str, loss: str) -> None:
    label_map, labels = LABELS[name]
    first, *others = label_map.regions
    zero = dict.fromkeys(["background"] * label_map.is_exclusive + others, 0)
    weights = class_weights(label_map, zero)
    right = sure(name)
    place = int(label_map.is_exclusive)
    # Wrong wherever it has no weight, right for the first region.
    if label_map.is_exclusive:
        is_first = (labels == label_map.labels[first])[..., None]
        wrong = jnp.where(is_first, right, jnp.asarray([30.0, -30.0, -30.0]))
    else:
        wrong = jnp.where(jnp.arange(right.shape[-1]) == place, right, -right)
    found = float(segmentation_loss(wrong, labels, label_map, loss, weights))
    assert found == pytest.approx(-1, abs=1e-3)
    assert float(segmentation_loss(wrong, labels, label_map, loss)) > found + 0.3


def test_weights_that_do_not_fit_are_named() -> None:
    assert class_weights(TISSUE, {}) is None
    assert class_weights(TISSUE, {"white": 2}) == (1.0, 1.0, 2.0)
    assert class_weights(TUMOUR, {"tumour core": 2}) == (1.0, 2.0, 1.0)
    for label_map, given, message in (
        (TISSUE, {"whit": 2}, "has 'whit', which is unknown; did you mean 'white'"),
        (TUMOUR, {"background": 2}, "`class_weights` has 'background'"),
        (TISSUE, {"grey": -1}, "gives 'grey' the weight -1; it needs a number"),
        (TISSUE, {"grey": "much"}, "gives 'grey' the weight 'much'"),
        (TISSUE, {"grey": 0, "white": 0}, "gives all regions the weight 0"),
    ):
        with pytest.raises(ValueError, match=message):
            class_weights(label_map, given)
