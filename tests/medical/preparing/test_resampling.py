import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy import ndimage
from scipy.spatial.transform import Rotation

from jaxswap.medical.preparing.resampling import mirror, rotation, turn_and_scale


def case(shape: tuple[int, int, int]) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(*shape, 2)).astype(np.float32)
    return jnp.asarray(image), jnp.asarray(rng.integers(0, 5, shape), jnp.uint8)


@pytest.mark.parametrize(("axis", "plane"), [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))])
@pytest.mark.parametrize("side", [6, 7])
def test_a_quarter_turn_is_that_of_numpy(
    axis: int, plane: tuple[int, int], side: int
) -> None:
    image, labels = case((side, side, side))
    angles = jnp.zeros(3).at[axis].set(jnp.pi / 2)
    turned, turned_labels = turn_and_scale(image, labels, rotation(angles))
    assert np.array_equal(turned_labels, np.rot90(labels, -1, plane))
    np.testing.assert_allclose(turned, np.rot90(image, -1, plane), atol=2e-5)


def test_turns_follow_one_another() -> None:
    angles = np.array([0.3, -0.5, 0.2], np.float32)
    # The turn about the second axis goes from the first to the third axis here.
    expected = Rotation.from_euler("xyz", angles * [1, -1, 1]).as_matrix()
    np.testing.assert_allclose(rotation(jnp.asarray(angles)), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 6, 7), (9, 4, 3), (1, 3, 2)])
def test_samples_are_those_of_scipy(shape: tuple[int, int, int]) -> None:
    image, labels = case(shape)
    matrix = np.asarray(rotation(jnp.array([0.4, 0.1, -0.3]))) * 1.2
    middle = (np.array(shape) - 1) / 2
    places = np.indices(shape).reshape(3, -1) - middle[:, None]
    places = (matrix @ places + middle[:, None]).reshape(3, *shape)
    turned, turned_labels = turn_and_scale(image, labels, jnp.asarray(matrix))
    for channel in range(2):
        # Ours fades to 0 across the last voxel, as with a margin of zeros.
        padded = np.pad(np.asarray(image[..., channel]), 2)
        expected = ndimage.map_coordinates(padded, places + 2, order=1)
        np.testing.assert_allclose(turned[..., channel], expected, atol=1e-5)
    nearest = ndimage.map_coordinates(np.pad(labels, 2), places + 2, order=0)
    assert np.mean(turned_labels == nearest) == 1


def test_scaling_makes_the_object_smaller_or_larger() -> None:
    labels = jnp.zeros((12, 12, 12), jnp.uint8).at[3:9, 3:9, 3:9].set(1)
    image = labels.astype(jnp.bfloat16)[..., None]
    counts = [
        int(turn_and_scale(image, labels, jnp.eye(3) * scale)[1].sum(dtype=jnp.int32))
        for scale in (0.7, 1.0, 1.4)
    ]
    assert counts[0] > counts[1] == 6**3 > counts[2] > 0


def test_only_wanted_axes_are_mirrored() -> None:
    image, labels = case((3, 4, 5))
    turned, turned_labels = mirror(image, labels, (0, 2), jnp.array([False, True]))
    assert np.array_equal(turned, image[:, :, ::-1])
    assert np.array_equal(turned_labels, labels[:, :, ::-1])
