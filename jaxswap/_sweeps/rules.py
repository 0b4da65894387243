"""The rule of each primitive, by its name."""

from __future__ import annotations

from jax.extend.core import JaxprEqn

from jaxswap._sweeps import elementwise, shapes
from jaxswap._sweeps.convolutions import Convolution
from jaxswap._sweeps.dynamic_slices import DynamicSlice, DynamicUpdate
from jaxswap._sweeps.gathers import Gather
from jaxswap._sweeps.moments import Moments, is_moments
from jaxswap._sweeps.places import Places, is_place
from jaxswap._sweeps.pooling import Pooling, Scattered
from jaxswap._sweeps.products import Product
from jaxswap._sweeps.random_bits import RandomBits
from jaxswap._sweeps.reductions import COMBINES, Reduction
from jaxswap._sweeps.rule import Rule
from jaxswap._sweeps.scatters import Scatter
from jaxswap._sweeps.stacks import Stack

RULES: dict[str, Rule] = {
    **dict.fromkeys(elementwise.NAMES, elementwise.Elementwise()),
    "optimization_barrier": elementwise.Barrier(),
    "iota": elementwise.Iota(),
    **dict.fromkeys(
        ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), shapes.SO_FAR
    ),
    "sort": shapes.SORT,
    "broadcast_in_dim": shapes.BROADCAST,
    "transpose": shapes.TRANSPOSE,
    "squeeze": shapes.SQUEEZE,
    "reshape": shapes.Reshape(),
    "concatenate": shapes.CONCATENATE,
    "split": shapes.SPLIT,
    "stack": Stack(is_apart=False),
    "unstack": Stack(is_apart=True),
    "tile": shapes.TILE,
    "rev": shapes.MIRROR,
    "slice": shapes.Slice(),
    "pad": shapes.Pad(),
    **{f"reduce_{name}": Reduction(combine) for name, combine in COMBINES.items()},
    "argmax": Reduction(None),
    "argmin": Reduction(None),
    "conv_general_dilated": Convolution(),
    "reduce_window_sum": Pooling(COMBINES["sum"]),
    "reduce_window_max": Pooling(COMBINES["max"]),
    "reduce_window_min": Pooling(COMBINES["min"]),
    "select_and_scatter_add": Scattered(),
    "dot_general": Product(),
    "gather": Gather(),
    "scatter": Scatter(is_added=False),
    "scatter-add": Scatter(is_added=True),
    "scatter_add": Scatter(is_added=True),
    "dynamic_slice": DynamicSlice(),
    "dynamic_update_slice": DynamicUpdate(),
    "random_bits": RandomBits(),
}
"""Rules for primitives. Others run on whole arrays."""

_MOMENTS = Moments()
_PLACES = Places()


def rule_of(eqn: JaxprEqn) -> Rule | None:
    """Return the rule of an equation. `None` if it runs on whole arrays."""
    if is_moments(eqn):
        return _MOMENTS
    return _PLACES if is_place(eqn) else RULES.get(eqn.primitive.name)
