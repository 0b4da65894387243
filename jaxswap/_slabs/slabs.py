"""How a program is cut into slabs: what the user says, and what a plan remembers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from jaxswap._base.arguments import at_least_one

AUTO: Literal["auto"] = "auto"
"""Slabs are tried where a budget cannot be met otherwise."""


@dataclass(frozen=True)
class Slabs:
    """Compute a network's finest values slab by slab, exactly.

    One axis of space is cut into slabs. The program of both passes becomes *sweeps*
    over the slabs. In a sweep, each slab brings what it needs, with planes of its
    neighbours. It computes, writes what later sweeps need, and adds to sums: statistics
    of normalizations, gradients of kernels, the loss. So value and gradient are those
    of the whole volume, to rounding, and there are no seams.

    Between the sweeps only results of convolutions and matrix products exist as whole
    arrays, and not all of them if some are `recomputed`. Everything else exists as
    slabs only. Coarser levels of the network run on whole arrays, as without slabs.

    What cannot be computed by slabs, such as a sum that runs along the axis, runs on
    whole arrays too. The result is right, and takes more memory.

    Attributes:
        count: So many slabs, or a few less if planes cannot be divided. The last slab
            may hold fewer planes than the others.
        levels: How many levels of the network run by slabs: the finest one, the one
            with half its planes, and so on.
        axis: Which dimension of the features of the largest convolution is cut. `None`:
            the longest one of space. Or a tuple: for each positional argument of the
            function, which dimension of its arrays is cut; `None` for arguments that
            are not, such as parameters. Where the axis is in other arrays follows from
            the program.
        recomputed: How many of the results of convolutions and matrix products, which
            sweeps would store, are computed again in each slab that needs them. Those
            come first that take the least operations for their bytes. `None`: a plan
            finds a good number; without a plan it is 0.
        swapped: How many of the values that sweeps store lie in host memory. Sweeps
            write and read them slab by slab, so the device holds a few planes of them
            at a time. The number of slabs is then even: copies of one run beside the
            computation of the other. `None`: a plan finds a good number; without a plan
            it is 0.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxswap
        >>> from flax import linen as nn
        >>> network = nn.Sequential([nn.Conv(4, (3, 3)), jnp.tanh, nn.Conv(1, (3, 3))])
        >>> x = jnp.ones((1, 16, 8, 2))
        >>> parameters = network.init(jax.random.key(0), x)
        >>> def loss(parameters, x):
        ...     return jnp.mean(network.apply(parameters, x) ** 2)
        >>> by_slabs = jaxswap.offload(loss, slabs=jaxswap.Slabs(count=4))
        >>> value, gradient = jax.jit(jax.value_and_grad(by_slabs))(parameters, x)
        >>> bool(jnp.allclose(value, loss(parameters, x)))
        True
    """

    count: int = 16
    levels: int = 1
    axis: int | tuple[int | None, ...] | None = None
    recomputed: int | None = None
    swapped: int | None = None

    def __post_init__(self) -> None:
        at_least_one(self.count, "count")
        at_least_one(self.levels, "levels")
        if isinstance(self.axis, tuple):
            _check_axes(self.axis)
        for name in ("axis", "recomputed", "swapped"):
            number = getattr(self, name)
            if not (isinstance(number, tuple) or _is_number(number)):
                raise ValueError(
                    f"`{name}` is {number!r}; an integer of at least 0 is needed."
                )


def _check_axes(axes: tuple[Any, ...]) -> None:
    if not all(map(_is_number, axes)) or set(axes) <= {None}:
        raise ValueError(
            f"`axis` is {axes!r}; for each argument it needs an integer of at least 0, "
            "or None, and one integer at least."
        )


def _is_number(given: Any) -> bool:
    """Whether something is `None`, or an integer of at least 0."""
    is_integer = isinstance(given, int) and not isinstance(given, bool)
    return given is None or (is_integer and given >= 0)


Cut: TypeAlias = Slabs | Literal["auto"] | None
"""How a program is cut: as said, as a plan finds it, or not at all."""


def parse_slabs(slabs: object) -> Cut:
    """Return what was given as `slabs`.

    Args:
        slabs: A `jaxswap.Slabs`; `None` or `"none"` for no slabs; `"auto"`; or levels
            and slabs, such as `"2x16"`.

    Raises:
        TypeError: If it is something else than text.
        ValueError: If it is a text that says nothing of slabs.

    Example:
        >>> from jaxswap.extend import parse_slabs
        >>> parse_slabs("2x16")
        Slabs(count=16, levels=2, axis=None, recomputed=None, swapped=None)
    """
    if slabs is None or isinstance(slabs, Slabs):
        return slabs
    if not isinstance(slabs, str):
        raise TypeError(
            f"`slabs` is {slabs!r}; it needs a jaxswap.Slabs, such as "
            'jaxswap.Slabs(count=16), "auto" or None.'
        )
    text = slabs.strip().lower()
    if text == AUTO:
        return AUTO
    if text == "none":
        return None
    numbers = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if numbers is None:
        raise ValueError(
            f'`slabs` is "{slabs}"; it needs "auto", "none", or levels and slabs, such '
            'as "2x16".'
        )
    levels, count = map(int, numbers.groups())
    return Slabs(count, levels)
