"""Import paths from the time when modules had no folders. They still work.

`jaxswap.medical.unet` is the same module as `jaxswap.medical.networks.unet`. A folder
that has the name of an old module also has the names of that module. Nothing is
imported before it is asked for.
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
"""For each old import path, the module that it means now."""


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
        """Let Python make a module. `exec_module` replaces it."""

    def exec_module(self, module: ModuleType) -> None:
        """Replace the empty module by the one that the old path means."""
        found = importlib.import_module(MOVED[module.__name__])
        sys.modules[module.__name__] = found


def attributes_of_module(package: str) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package that contains a module of its own name.

    Args:
        package: Its full name.

    Returns:
        A function that finds the names of that module.
    """
    module = f"{package}.{package.rpartition('.')[2]}"

    def find(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(module), name)

    return find
