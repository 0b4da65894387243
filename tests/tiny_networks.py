"""Networks of one layer and of few, for runs in which they only have to be there."""

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


class Convolutions(nn.Module):
    """Convolutions that see neighbours, with a nonlinearity between them.

    Attributes:
        hidden: Number of convolutions before the last one.
        classes: Number of logits a voxel.
        multiple: The sides of what it sees must be divisible by this number.
    """

    hidden: int = 1
    classes: int = 3
    multiple: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        """Return logits, (batch, x, y, z, class)."""
        for _ in range(self.hidden):
            x = jax.nn.leaky_relu(nn.Conv(2, (3, 3, 3))(x))
        return nn.Conv(self.classes, (3, 3, 3))(x)
