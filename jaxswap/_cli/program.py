"""The program that the options of `plan` and `inspect` name."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxswap._cli.command import BadInputError, bad_input


def add_program(parser: argparse.ArgumentParser, *, with_data: bool = False) -> None:
    """Add the options that name a program, its size and the GPU.

    Args:
        parser: Where they are added.
        with_data: Whether a data set may stand in the program's place.
    """
    parser.add_argument(
        "program",
        help="`unet3d`, or package.module:factory, a function without arguments that "
        "returns the loss and a tuple of its arguments (arrays or their types)"
        + ("; or a data set, see jaxswap check" if with_data else ""),
    )
    parser.add_argument("--target", help="GPU by name, or a saved target's file")
    parser.add_argument("--size", type=int, help="voxels a side, of unet3d (192)")
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), help="of unet3d (bfloat16)"
    )


def is_data(program: str) -> bool:
    """Whether the words name a file or folder instead of a program."""
    return Path(program).exists()


def program_of(
    parsed: argparse.Namespace,
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the loss that the options name, and its arguments.

    Raises:
        BadInputError: If there is no such program.
    """
    if parsed.program == "unet3d":
        size = 192 if parsed.size is None else parsed.size
        return _unet3d(size, parsed.dtype or "bfloat16")
    if parsed.size is not None or parsed.dtype:
        raise BadInputError("--size and --dtype are for unet3d alone.")
    made = _call_factory(parsed.program)
    if not (isinstance(made, tuple) and len(made) == 2 and callable(made[0])):
        raise BadInputError(
            f"{parsed.program} returned {type(made).__name__}; it must return the loss "
            "and a tuple of its arguments."
        )
    fn, args = made
    return fn, tuple(args) if isinstance(args, (tuple, list)) else (args,)


def _unet3d(size: int, dtype: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    import jax.numpy as jnp

    from jaxswap.medical.networks.unet import PAPER
    from jaxswap.medical.networks.unet_program import loss_and_arguments

    with bad_input():
        return loss_and_arguments(size, PAPER.clone(dtype=jnp.dtype(dtype)))


def _call_factory(name: str) -> Any:
    """Import and call the factory that `package.module:factory` names."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise BadInputError(
            f"`{name}` is neither unet3d nor of the form package.module:factory."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = importlib.import_module(module)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise BadInputError(f"`{name}` cannot be imported: {error}") from error
    if not callable(factory):
        raise BadInputError(f"`{name}` is no function.")
    try:
        return factory()
    except TypeError as error:
        raise BadInputError(f"`{name}` cannot be called: {error}") from error
