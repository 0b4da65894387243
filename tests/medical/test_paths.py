"""Import paths from before the modules had folders lead to the modules of today."""

import importlib
import subprocess
import sys

import pytest

from jaxswap.medical._paths import MOVED

DOCUMENTED = (
    "datasets label_maps preparing prepared_cache loading audit splitting "
    "unet residual_unet layers losses "
    "run_config training_run training_step objective augmentation checkpoints run_log "
    "prediction sliding_window case_prediction metrics evaluation "
    "synthesis half_millimetre anatomy"
).split()
FOLDERS = ["preparing", "prediction", "synthesis"]
"""Named like a module of old."""


def test_every_documented_path_is_in_the_table_or_a_folder() -> None:
    known = {path.removeprefix("jaxswap.medical.") for path in MOVED}
    assert known - set(DOCUMENTED) == set()
    assert set(DOCUMENTED) - known == set(FOLDERS)


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_old_path_is_the_module_of_today(old: str, new: str) -> None:
    module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__name__ == new
    assert module.__spec__ is not None
    assert module.__spec__.name == new
    parent, _, name = old.rpartition(".")
    assert getattr(sys.modules[parent], name) is module


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_has_what_its_module_has(name: str) -> None:
    folder = importlib.import_module(f"jaxswap.medical.{name}")
    module = importlib.import_module(f"jaxswap.medical.{name}.{name}")
    public = [name for name in vars(module) if not name.startswith("_")]
    assert public
    assert all(getattr(folder, name) is getattr(module, name) for name in public)
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = folder.nothing_of_this_name


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, jaxswap.medical.preparing; "
        "print(*sorted(m for m in sys.modules if m.startswith('jaxswap.medical')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    expected = ["", "._paths", ".preparing"]
    assert done.stdout.split() == [f"jaxswap.medical{name}" for name in expected]
