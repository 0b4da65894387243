"""Dice as a loss."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxswap.medical.networks.losses import dice_loss, soft_dice


def test_dice_of_half_overlapping_masks():
    truth = jnp.zeros((1, 1, 1, 4, 1)).at[..., :2, :].set(1.0)
    guess = jnp.zeros((1, 1, 1, 4, 1)).at[..., 1:3, :].set(1.0)
    np.testing.assert_allclose(soft_dice(guess, truth), [[0.5]], atol=1e-5)


def test_the_loss_is_minus_the_mean_over_classes():
    targets = jnp.zeros((1, 2, 2, 2, 2)).at[..., 0].set(1.0)
    logits = jnp.where(targets > 0, 50.0, -50.0)
    np.testing.assert_allclose(dice_loss(logits, targets), -1, atol=1e-6)
    np.testing.assert_allclose(dice_loss(-logits, targets), 0, atol=1e-5)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        dice_loss(jnp.zeros((1, 2, 2, 2, 3)), jnp.zeros((1, 2, 2, 2, 1)))
