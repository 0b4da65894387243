"""Windows over a volume: what they agree on comes back, and each counts once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxswap.medical.prediction.sliding_window import (
    gaussian_importance,
    predict_windows,
    window_starts,
)


def _image(shape=(9, 10, 7), channels=2, seed=0):
    return (
        np.random.default_rng(seed).normal(size=(*shape, channels)).astype(np.float32)
    )


def _count(apply):
    """`apply` as it is, and the shapes it was called with."""
    shapes = []

    def counted(images):
        shapes.append(images.shape)
        return apply(images)

    return counted, shapes


@pytest.mark.parametrize(("side", "count"), [(192, 1), (128, 8), (96, 27), (64, 125)])
def test_windows_over_192_cubed(side, count):
    assert len(window_starts((192,) * 3, (side,) * 3, 0.5)) == count


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(0, 30)] * 3),
    st.floats(0, 0.9),
)
def test_windows_cover_everything_with_the_overlap(window, more, overlap):
    shape = tuple(a + b for a, b in zip(window, more, strict=True))
    starts = window_starts(shape, window, overlap)
    assert len(set(starts)) == len(starts)
    for axis in range(3):
        along = sorted({start[axis] for start in starts})
        assert along[0] == 0
        assert along[-1] + window[axis] == shape[axis]
        steps = np.diff(along)
        assert (steps < max(window[axis] * (1 - overlap), 1) + 1).all()
        assert (steps <= window[axis]).all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, -7.3])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_constant_comes_back_exactly(value, batch):
    scores = predict_windows(
        lambda images: np.full((*images.shape[:4], 3), value, np.float32),
        _image(),
        (4, 5, 4),
        batch=batch,
    )
    assert scores.shape == (9, 10, 7, 3)
    assert scores.dtype == np.float32
    assert (scores == np.float32(value)).all()


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.integers(1, 8)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.floats(0, 0.8),
    st.lists(st.sampled_from([0, 1, 2]), unique=True),
    st.integers(1, 4),
)
def test_a_pointwise_function_comes_back_exactly(shape, window, overlap, axes, batch):
    image = _image(shape)
    scores = predict_windows(
        lambda images: images * np.float32(1.7), image, window, overlap, axes, batch
    )
    np.testing.assert_array_equal(scores, image * np.float32(1.7))


def test_a_window_as_large_as_the_volume_is_the_whole_volume():
    weights = np.random.default_rng(1).normal(size=(7, 7)).astype(np.float32)
    apply = jax.jit(lambda images: jnp.einsum("bxyzc,zw->bxywc", images, weights))
    image = _image()
    scores = predict_windows(apply, image, (9, 10, 7), mirror_axes=())
    np.testing.assert_array_equal(scores, np.asarray(apply(image[None]))[0])


def test_a_volume_smaller_than_the_window_is_padded_on_both_sides():
    image = _image((4, 3, 5), 1)
    seen = []

    def apply(images):
        seen.append(images)
        return images

    scores = predict_windows(apply, image, (6, 6, 5), mirror_axes=())
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0][0, 1:5, 1:4, :], image)
    assert np.count_nonzero(seen[0]) == image.size
    np.testing.assert_array_equal(scores, image)


def _leans(images):
    """A function that sees left and right, front and back, below and above."""
    moved = jnp.roll(images, 1, 1) + 2 * jnp.roll(images, 1, 2)
    return moved + 3 * jnp.roll(images, 1, 3)


def test_mirroring_the_volume_mirrors_the_prediction():
    image = _image((8, 8, 8), 1)
    for axis in range(3):
        scores = predict_windows(_leans, image, (8, 8, 8))
        mirrored = predict_windows(_leans, np.flip(image, axis), (8, 8, 8))
        np.testing.assert_allclose(np.flip(mirrored, axis), scores, atol=1e-5)
    plain = predict_windows(_leans, image, (8, 8, 8), mirror_axes=())
    other = predict_windows(_leans, np.flip(image, 0), (8, 8, 8), mirror_axes=())
    assert not np.allclose(np.flip(other, 0), plain, atol=1e-2)


def test_mirrored_predictions_are_averaged():
    image = _image((6, 6, 6), 1)
    scores = predict_windows(_leans, image, (6, 6, 6), mirror_axes=(1,))
    straight = np.asarray(_leans(image[None]))[0]
    turned = np.flip(np.asarray(_leans(np.flip(image, 1)[None]))[0], 1)
    np.testing.assert_allclose(scores, (straight + turned) / 2, atol=1e-5)


def test_windows_are_weighted_by_their_importance():
    """Windows of other values mix as the definition of the weighted mean says."""
    calls = iter(range(100))

    def apply(images):
        return np.full((*images.shape[:4], 1), next(calls), np.float32)

    image, window = _image((10, 6, 6), 1), (6, 6, 6)
    scores = predict_windows(apply, image, window, mirror_axes=())
    weights = gaussian_importance(window).astype(np.float64)
    total, sums = np.zeros((10, 6, 6)), np.zeros((10, 6, 6))
    for index, (x, y, z) in enumerate(window_starts((10, 6, 6), window, 0.5)):
        place = (slice(x, x + 6), slice(y, y + 6), slice(z, z + 6))
        total[place] += weights
        sums[place] += index * weights
    np.testing.assert_allclose(scores[..., 0], sums / total, rtol=1e-5, atol=1e-6)


def test_importance_is_a_gaussian_that_never_vanishes():
    weights = gaussian_importance((16, 8, 64))
    assert weights.shape == (16, 8, 64)
    assert weights.dtype == np.float32
    assert weights.min() == np.float32(1e-6)
    assert weights.max() == weights[7, 3, 31] <= 1
    along = weights[:, 3, 31] / weights[7, 3, 31]
    expected = np.exp((0.5**2 - np.square(np.arange(16) - 7.5)) / (2 * 2**2))
    np.testing.assert_allclose(along, expected, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_all_batches_have_one_shape(batch):
    apply, shapes = _count(lambda images: images)
    predict_windows(apply, _image((9, 8, 8)), (6, 8, 8), batch=batch)
    assert set(shapes) == {(batch, 6, 8, 8, 2)}
    assert len(shapes) == -(-2 * 8 // batch)


def test_half_precision_scores_are_averaged_in_single():
    apply = jax.jit(lambda images: jnp.asarray(images, jnp.bfloat16))
    scores = predict_windows(apply, _image(), (4, 4, 4))
    assert scores.dtype == np.float32


_GOOD = {"image": np.zeros((4, 4, 4, 1), np.float32), "window": (2, 2, 2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 4, 4))}, r"`image` has shape \(4, 4, 4\)"),
        ({"image": np.zeros((4, 0, 4, 1))}, "not .x, y, z, channel."),
        ({"window": (2, 2)}, r"`window` is \(2, 2\)"),
        ({"window": (2, 0, 2)}, "three positive numbers"),
        ({"overlap": 1.0}, "`overlap` is 1.0"),
        ({"overlap": -0.1}, "`overlap` is -0.1"),
        ({"mirror_axes": (0, 0)}, "`mirror_axes` is"),
        ({"mirror_axes": (3,)}, "choose of 0, 1 and 2"),
        ({"batch": 0}, "`batch` is 0"),
        ({"apply": lambda images: images[..., 0]}, "`apply` returned shape"),
        ({"apply": lambda images: images[:, 1:]}, "`apply` returned shape"),
    ],
)
def test_ill_arguments_are_refused(change, message):
    arguments = {"apply": lambda images: images, **_GOOD, **change}
    with pytest.raises(ValueError, match=message):
        predict_windows(**arguments)
