"""The part of a convolution that one device computes if space is split over devices.

The gradient of a convolution's kernel is a convolution of the input, too. Its kernel is
the cotangent, and it sums over space. If space is split, a device needs its own planes
of the input and some of its neighbours' planes: the halo.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from jaxswap._graph.placement import Placement, Spec


@dataclasses.dataclass(frozen=True)
class Window:
    """How a sum over a mesh is split.

    Attributes:
        summed: Mesh axes over which the parts are added up.
        inputs: How each operand is split.
        output: How the sum is split.
    """

    summed: tuple[str, ...]
    inputs: tuple[Spec, ...]
    output: Spec


@dataclasses.dataclass(frozen=True)
class Halo:
    """What a device needs along one dimension of space.

    Attributes:
        before: Planes of the neighbour before it.
        after: Planes of the neighbour after it.
        padding: Zeros to add at both ends. If negative, planes to leave out.
    """

    before: int
    after: int
    padding: tuple[int, int]


def halo_of(
    left_size: int,
    right_size: int,
    out_size: int,
    strides: tuple[int, int, int],
    padding_before: int,
) -> Halo | None:
    """Return what a device needs of a dimension. `None` if its neighbours have less.

    Args:
        left_size: Planes of the input on each device.
        right_size: Planes of the kernel on each device.
        out_size: Planes of the result.
        strides: The input's dilation, the window's stride, the kernel's dilation.
        padding_before: Zeros before the whole input.
    """
    dilation, stride, spread = strides
    if left_size * dilation != right_size * spread:
        return None  # The devices' parts of input and kernel start at other places.
    before = max(0, -(-padding_before // dilation))
    end = (right_size - 1) * spread + (out_size - 1) * stride + 1 - padding_before
    after = max(0, -(-(end - left_size * dilation) // dilation))
    if max(before, after) > left_size:
        return None
    have = (left_size + after - 1) * dilation + 1
    return Halo(before, after, (padding_before - before * dilation, end - have))


def halos_of(eqn: Any, window: Window, placement: Placement) -> dict[int, Halo | None]:
    """Return the halo of each dimension of space that is split, by its position."""
    params = eqn.params
    numbers = params["dimension_numbers"]
    shapes = [v.aval.shape for v in (*eqn.invars, eqn.outvars[0])]
    found: dict[int, Halo | None] = {}
    dimensions = zip(
        numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True
    )
    for place, (left, right, out) in enumerate(dimensions):
        names = window.inputs[0][left]
        if names:
            count = placement.shards(names)
            strides = (
                params["lhs_dilation"][place],
                params["window_strides"][place],
                params["rhs_dilation"][place],
            )
            found[place] = halo_of(
                shapes[0][left] // count,
                shapes[1][right] // count,
                shapes[2][out],
                strides,
                params["padding"][place][0],
            )
    return found


def local_convolution(
    eqn: Any,
    params: dict[str, Any],
    window: Window,
    placement: Placement,
    left: jax.Array,
    right: jax.Array,
) -> jax.Array:
    """Compute a device's part of a convolution, inside `jax.shard_map`."""
    padding = list(params["padding"])
    for place, halo in halos_of(eqn, window, placement).items():
        assert halo is not None
        dimension = params["dimension_numbers"].lhs_spec[2 + place]
        (axis,) = window.inputs[0][dimension]
        left = _extended(left, dimension, axis, placement.sizes[axis], halo)
        padding[place] = halo.padding
    return eqn.primitive.bind(left, right, **{**params, "padding": tuple(padding)})


def _extended(
    x: jax.Array, dimension: int, axis: str, count: int, halo: Halo
) -> jax.Array:
    """Return an array with its neighbours' planes, or zeros if there is none."""
    size = x.shape[dimension]
    pieces: Sequence[jax.Array] = [x]
    if halo.before:
        last = lax.slice_in_dim(x, size - halo.before, size, axis=dimension)
        onward = [(i, i + 1) for i in range(count - 1)]
        pieces = [lax.ppermute(last, axis, onward), *pieces]
    if halo.after:
        first = lax.slice_in_dim(x, 0, halo.after, axis=dimension)
        back = [(i + 1, i) for i in range(count - 1)]
        pieces = [*pieces, lax.ppermute(first, axis, back)]
    return lax.concatenate(pieces, dimension) if len(pieces) > 1 else x
