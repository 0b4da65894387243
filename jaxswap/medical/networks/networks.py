"""Networks by name, and those of the user by import path."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxswap.medical.networks.layers import CPU, LEAN
from jaxswap.medical.networks.residual_unet import ResidualUNet3D
from jaxswap.medical.networks.unet import UNet3D

NETWORKS: dict[str, type[nn.Module]] = {
    "isensee2017": UNet3D,
    "residual": ResidualUNet3D,
}
"""Networks that come with the package, by name."""

_MULTIPLE = 32  # of the sides that a user's network sees, if it does not say
_MOST_MULTIPLE = 2**16


def make_network(
    name: str,
    options: Mapping[str, Any],
    *,
    classes: int,
    precision: str,
    platform: str | None = None,
    is_partitioned: bool = False,
) -> nn.Module:
    """Make a network.

    Args:
        name: Of `NETWORKS`, or `package.module:Class` of a Flax linen module. It is
            called with (batch, x, y, z, channel) and `deterministic`, and returns
            logits, (batch, x, y, z, class).
        options: Arguments of its class.
        classes: Number of logits a voxel, passed as `classes`.
        precision: Type of the features, passed as `dtype` if the class has it.
        platform: Where it will run: layers that are fast there; None asks JAX.
        is_partitioned: Whether space is split over devices. The layers that are fast on
            a CPU fold space into channels and batch, which XLA cannot split.

    Returns:
        The network.

    Raises:
        ValueError: If there is none of that name, or an option does not fit.
    """
    made = _class_of(name)
    known = inspect.signature(made).parameters
    for option in options:
        if option not in known or option in ("parent", "name", "classes"):
            usable = [k for k in known if k not in ("parent", "name", "classes")]
            raise ValueError(
                f"`network_options` has {option!r}, but {name} takes "
                f"{', '.join(usable)}."
            )
        _check_option(option, options[option], known[option].default)
    if "classes" not in known:
        raise ValueError(f"{name} has no field `classes`: the number of its outputs.")
    arguments: dict[str, Any] = {"classes": classes}
    if "dtype" in known:
        arguments["dtype"] = jnp.dtype(precision)
    if "layers" in known:
        on_cpu = (platform or jax.default_backend()) == "cpu"
        arguments["layers"] = CPU if on_cpu and not is_partitioned else LEAN
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    try:
        return made(**(arguments | given))
    except (TypeError, ValueError) as error:
        raise ValueError(f"`network_options` do not fit {name}: {error}.") from error


def multiple_of(network: nn.Module) -> int:
    """The number by which the sides of what a network sees must be divisible.

    Raises:
        ValueError: If no volume has such sides.
    """
    multiple = getattr(network, "multiple", _MULTIPLE)
    if not isinstance(multiple, int) or not 1 <= multiple <= _MOST_MULTIPLE:
        raise ValueError(
            f"`network_options`: the sides of what {type(network).__name__} sees must "
            "be divisible by its `multiple`, which is not in "
            f"1..{_MOST_MULTIPLE}: choose another number of levels."
        )
    return multiple


def check_deep_supervision(network: nn.Module, name: str) -> None:
    """Raise ValueError if a network cannot score each level of its decoder."""
    if "all_levels" not in inspect.signature(type(network).__call__).parameters:
        raise ValueError(
            f"`deep_supervision` needs a network that takes `all_levels`, and {name} "
            "does not; isensee2017 sums the scores of its levels already."
        )


def _check_option(name: str, value: Any, default: Any) -> None:
    """Raise ValueError if a number is asked for and the value is none."""
    for kinds, told in (((int,), "an integer"), ((int, float), "a number")):
        if type(default) is kinds[-1] and type(value) not in kinds:
            raise ValueError(
                f"`network_options`: `{name}` is {value!r}; it needs {told}, such as "
                f"{default}."
            )


def _class_of(name: str) -> type[nn.Module]:
    if name in NETWORKS:
        return NETWORKS[name]
    module, separator, attribute = name.partition(":")
    if not separator:
        raise ValueError(
            f"`network` is {name!r}; choose {', '.join(NETWORKS)}, or give "
            "`package.module:Class`."
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(f"`network` is {name!r}: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"`network` is {name!r}, which is no Flax linen module class.")
    return found
