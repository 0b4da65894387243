"""Plans that were found before, kept on disk.

There is one small file for each combination of program, budget, target, versions and
code of jaxswap. So no plan of an older search is found. The file is in the folder that
`user_folder("plans")` names. If it cannot be read, it counts as absent. If the folder
cannot be written, plans are not remembered.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jaxswap._base.files import user_folder, write_whole
from jaxswap._base.plain import read_plain
from jaxswap._base.sources import digest_of
from jaxswap._base.version import __version__
from jaxswap._graph.graph import Graph
from jaxswap._plans.file import Decisions, decisions_of, decisions_to_json
from jaxswap._plans.plan import Plan
from jaxswap._schedule.decision import Policy
from jaxswap._schedule.policy import ByValue

Retrace = Callable[[Decisions], tuple[Graph, Graph | None]]
"""Traces the program again, with loops and calls that run as decided, and cut into such
slabs. Returns its graph and, if that may be another one, the graph that JAX runs."""


def folder() -> Path:
    """Return the folder where plans are kept."""
    return user_folder("plans")


def clear_plans() -> int:
    """Forget all plans on disk. Return how many there were.

    They are in `$JAXSWAP_HOME/plans`. Without this variable they are in
    `$XDG_CACHE_HOME/jaxswap/plans`, or in `~/.cache/jaxswap/plans`. An older variable,
    `$JAXSWAP_CACHE_DIR`, names the folder itself. It is read before the others.

    Example:
        >>> import jaxswap
        >>> isinstance(jaxswap.clear_plans(), int)
        True
    """
    found = list(folder().glob("*.json")) if folder().is_dir() else []
    found = [path for path in found if not path.is_dir()]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def can_name(policy: Policy | None) -> bool:
    """Whether the text of a policy names all that its decisions depend on.

    This is true for jaxswap's own policies. The code of others may have changed.
    """
    if policy is None:
        return True
    is_own = type(policy).__module__.partition(".")[0] == "jaxswap"
    return is_own and not isinstance(policy, ByValue)


def key_of(**parts: Any) -> str:
    """Return a name for what a plan depends on, versions included."""
    versions = {name: version(name) for name in ("jax", "jaxlib", "highspy")}
    versions |= {"jaxswap": __version__, "code": digest_of()}
    text = json.dumps({**parts, "versions": versions}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def find(key: str, retrace: Retrace) -> Plan | None:
    """Return the plan of that name, or None if there is none that can be read.

    Errors of `retrace` are not caught: it runs the user's function.
    """
    path = folder() / f"{key}.json"
    try:
        found = decisions_of(read_plain(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        return _missed(path, error)
    graphs = retrace(found)
    try:
        return found.plan(*graphs)
    except Exception as error:  # Nothing of the user runs here: the file is at fault.
        return _missed(path, error)


def _missed(path: Path, error: Exception) -> None:
    """Say that a file is of no use."""
    message = f"{path} holds no plan that can be used ({error}). Planning anew."
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def keep(key: str, plan: Plan) -> None:
    """Remember a plan."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        write_whole(folder() / f"{key}.json", decisions_to_json(plan))
    except OSError:
        return
