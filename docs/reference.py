"""Docstrings -> the API reference, as web pages: `python docs/reference.py FOLDER`.

One page for `jaxswap` and one for each public module below it, made by pdoc. What pdoc
cannot read is a warning, and a warning is an error.
"""

import importlib
import os
import re
import sys
import types
import warnings
from pathlib import Path

# Importing what is documented would look for GPUs; the reference needs none.
os.environ["JAX_PLATFORMS"] = "cpu"

import flax.linen
import optax
import pdoc
import pdoc.extract
import pdoc.render

import jaxswap

MODULES = ("linen", "nnx", "policies", "extend", "medical")
"""Public modules; `jaxswap.commands` is described by `jaxswap --help`."""

FIRST = ("offload", "plan", "inspect", "check", "KEEP", "OFFLOAD", "RECOMPUTE")
"""Names that a reader looks for first."""

UPSTREAM = ("DenyList", "ArrayTree")
"""Types of Flax and Optax that only their own modules can resolve."""

BORROWED = ((flax.linen, "Module"), (optax, "GradientTransformation"))
"""Types in signatures, which are to have the names that users import."""

PRIVATE_ARRAY = re.compile(r"\b(jax\.)?jaxlib\._jax\.Array")
"""What `jax.Array` calls itself, which no attribute changes."""


def public_names() -> list[str]:
    """Names that `import jaxswap` gives, in the order of the reference."""
    found = [
        name
        for name, value in vars(jaxswap).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    ]
    return [*FIRST, *(name for name in found if name not in FIRST)]


def build(folder: Path) -> None:
    """Write the pages.

    Args:
        folder: Where to; it is made.

    Raises:
        UserWarning: If pdoc cannot import a module or read a docstring or a type.
    """
    # pdoc takes names that are imported from elsewhere only if they are listed.
    setattr(jaxswap, "__all__", [*public_names(), *MODULES])  # noqa: B010
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in UPSTREAM:
            warnings.filterwarnings("ignore", f".*Import of {name} failed")
        for library, name in BORROWED:
            getattr(library, name).__module__ = library.__name__
        for name in pdoc.extract.walk_specs(["jaxswap"]):
            _tidy_named_tuples(importlib.import_module(name))
        pdoc.render.configure(docformat="google")
        pdoc.pdoc("jaxswap", output_directory=folder)
    for page in folder.rglob("*.html"):
        page.write_text(PRIVATE_ARRAY.sub("jax.Array", page.read_text()))


def _tidy_named_tuples(module: types.ModuleType) -> None:
    """Say where the types of their fields are to be looked up; drop what is no text."""
    for found in vars(module).values():
        if isinstance(found, type) and hasattr(found, "_fields"):
            found.__new__.__module__ = found.__module__
            found.__new__.__doc__ = ""
            for name in vars(found)["_fields"]:
                vars(found)[name].__doc__ = ""  # was: "Alias for field number 0"


if __name__ == "__main__":
    build(Path(sys.argv[1]))
