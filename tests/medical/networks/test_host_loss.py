"""The loss on the host is that of training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxswap.medical.data.label_maps import LABEL_MAPS, LabelMap, make_label_map
from jaxswap.medical.networks.host_loss import loss_of_probabilities
from jaxswap.medical.networks.objective import (
    LOSSES,
    class_count,
    probabilities_of,
    segmentation_loss,
)

MAPS = {
    "tumour": LABEL_MAPS["brats2021"],
    "tissue": make_label_map("tissue", {"grey": 3, "white": 7}),
}
SHAPE = (20, 3, 4)  # More than a slab.


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", MAPS)
def test_probabilities_have_the_loss_of_their_logits(
    name: str, loss: str, weighted: bool
) -> None:
    label_map: LabelMap = MAPS[name]
    count = class_count(label_map)
    weights = tuple(range(1, count + 1)) if weighted else None
    logits = 3 * jax.random.normal(jax.random.key(0), (1, *SHAPE, count))
    labels = np.random.default_rng(0).choice(label_map.values, SHAPE).astype(np.uint8)
    probabilities = np.asarray(probabilities_of(logits, label_map))[0]
    truth = jnp.asarray(labels[None])
    expected = segmentation_loss(logits, truth, label_map, loss, weights)
    found = loss_of_probabilities(probabilities, labels, label_map, loss, weights)
    assert found == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", MAPS)
def test_a_sure_mistake_has_a_finite_loss(name: str, loss: str) -> None:
    label_map = MAPS[name]
    labels = np.full(SHAPE, label_map.values[1], np.uint8)
    wrong = 1 - label_map.to_regions(labels).astype(np.float32)
    if label_map.is_exclusive:
        wrong[..., 1] = 1
    assert -1e-6 < loss_of_probabilities(wrong, labels, label_map, loss) < 20


def test_an_unknown_loss_is_named() -> None:
    zeros, labels = np.zeros((*SHAPE, 2), np.float32), np.zeros(SHAPE, np.uint8)
    with pytest.raises(ValueError, match="`loss` is 'mse'; choose one of dice"):
        loss_of_probabilities(zeros, labels, MAPS["tissue"], "mse")
