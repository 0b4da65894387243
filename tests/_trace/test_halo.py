"""Parts of a convolution that is summed over space, made from neighbours' planes."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxswap._trace.halo import Halo, halo_of

COUNT = 4

# Planes of the input on each device, kernel size of the forward convolution, its
# stride, dilation and the input's dilation, zeros before.
CASES = [
    (planes, size, stride, spread, holes, before)
    for planes, size, stride, spread, holes, before in itertools.product(
        (2, 4), (1, 2, 3, 5), (1, 2), (1, 2), (1, 2), (-1, 0, 1, 2)
    )
    if planes * holes % stride == 0
]


def summed(left: np.ndarray, right: np.ndarray, halo_: tuple[int, ...]) -> np.ndarray:
    """One dimension of a kernel's gradient: over `left`, with `right` as the kernel."""
    low, high, stride, holes, spread = halo_
    return np.asarray(
        lax.conv_general_dilated(
            jnp.asarray(left)[None, None],
            jnp.asarray(right)[None, None],
            window_strides=(stride,),
            padding=((low, high),),
            lhs_dilation=(holes,),
            rhs_dilation=(spread,),
            precision="highest",
        )
    )[0, 0]


@pytest.mark.parametrize("case", CASES[::3])
def test_parts_of_all_devices_add_up_to_the_whole(case: tuple[int, ...]) -> None:
    planes, size, stride, spread, holes, before = case
    # The cotangent has a plane for each stride of the input, holes included.
    own = planes * holes // stride
    halo = halo_of(planes, own, size, (holes, spread, stride), before)
    if halo is None:
        pytest.skip("more planes than a neighbour has")
    rng = np.random.default_rng(0)
    left = rng.normal(size=COUNT * planes).astype(np.float32)
    right = rng.normal(size=COUNT * own).astype(np.float32)
    end = (len(right) - 1) * stride + (size - 1) * spread + 1
    after = end - before - ((len(left) - 1) * holes + 1)
    whole = summed(left, right, (before, after, spread, holes, stride))
    assert whole.shape == (size,)
    padded = np.pad(left, planes)  # what has no neighbour is given zeros
    parts = []
    for device in range(COUNT):
        start = (device + 1) * planes
        extended = padded[start - halo.before : start + planes + halo.after]
        mine = right[device * own : (device + 1) * own]
        parts.append(summed(extended, mine, (*halo.padding, spread, holes, stride)))
    np.testing.assert_allclose(sum(parts), whole, atol=1e-4)


def test_a_kernel_of_three_needs_one_plane_of_each_neighbour() -> None:
    assert halo_of(4, 4, 3, (1, 1, 1), 1) == Halo(1, 1, (0, 0))


def test_more_planes_than_a_neighbour_has_are_refused() -> None:
    assert halo_of(1, 1, 5, (1, 1, 1), 2) is None


def test_parts_that_do_not_start_together_are_refused() -> None:
    assert halo_of(4, 3, 3, (1, 1, 1), 1) is None
