"""A network of one layer, for runs in which it only has to be there."""

import jax
from flax import linen as nn


class OneConvolution(nn.Module):
    """A convolution that sees single voxels.

    Attributes:
        classes: Number of logits a voxel.
        multiple: The sides of what it sees must be divisible by this number.
    """

    classes: int = 3
    multiple: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Return logits, (batch, x, y, z, class)."""
        return nn.Conv(self.classes, (1, 1, 1))(x)


class TwoConvolutions(nn.Module):
    """Two convolutions that see neighbours, with a nonlinearity between them.

    Attributes:
        classes: Number of logits a voxel.
        multiple: The sides of what it sees must be divisible by this number.
    """

    classes: int = 3
    multiple: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Return logits, (batch, x, y, z, class)."""
        x = jax.nn.leaky_relu(nn.Conv(2, (3, 3, 3))(x))
        return nn.Conv(self.classes, (3, 3, 3))(x)
