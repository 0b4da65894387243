"""Modules had no folders once: the import paths of that time go on working.

`jaxswap.medical.unet` is `jaxswap.medical.networks.unet`, the very same module, and a
folder that is named like a module of old has what that module has. Nothing is imported
before it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_FOLDERS = {
    "data": "anatomy audit datasets label_maps splitting",
    "preparing": "augmentation loading prepared_cache",
    "networks": "layers losses objective residual_unet unet",
    "runs": "checkpoints run_config run_log",
    "prediction": "case_prediction sliding_window",
    "training": "training_run training_step",
    "scoring": "evaluation metrics",
    "synthesis": "half_millimetre",
}
MOVED = {
    f"jaxswap.medical.{name}": f"jaxswap.medical.{folder}.{name}"
    for folder, names in _FOLDERS.items()
    for name in names.split()
}
"""Where the module of an old import path is today."""


class MovedModules(MetaPathFinder, Loader):
    """Finds modules by their old import paths."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Say that this class loads a module that has moved."""
        del path, target
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make a module, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of today in place of the empty one."""
        found = importlib.import_module(MOVED[module.__name__])
        sys.modules[module.__name__] = found


def attributes_of_module(package: str) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package that has a module of its own name.

    Args:
        package: Its full name.

    Returns:
        A function that finds what the module has, by name.
    """
    module = f"{package}.{package.rpartition('.')[2]}"

    def find(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(module), name)

    return find
