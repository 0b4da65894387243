"""Plans that were found before, on disk.

One small file for each program, budget, target and set of versions, in
`$JAXSWAP_CACHE_DIR`, else `$XDG_CACHE_HOME/jaxswap/plans`, else
`~/.cache/jaxswap/plans`. A file that cannot be read counts as absent, and a folder that
cannot be written is done without.
"""

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jaxswap._plans.file import Retrace, plan_from_json, plan_to_json, write_atomically
from jaxswap._plans.plan import Plan


def folder() -> Path:
    """Where plans are kept."""
    given = os.environ.get("JAXSWAP_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jaxswap" / "plans"


def clear_plans() -> int:
    """Forget all plans on disk; return how many there were.

    Example:
        >>> import jaxswap
        >>> isinstance(jaxswap.clear_plans(), int)
        True
    """
    found = list(folder().glob("*.json")) if folder().is_dir() else []
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def key_of(**parts: Any) -> str:
    """Name what a plan depends on, the versions included."""
    versions = {name: version(name) for name in ("jaxswap", "jax", "jaxlib", "scipy")}
    text = json.dumps({**parts, "versions": versions}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def find(key: str, traced: Retrace) -> Plan | None:
    """Return the plan of that name, if there is one that can be read."""
    try:
        return plan_from_json((folder() / f"{key}.json").read_text(), traced)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep(key: str, plan: Plan) -> None:
    """Remember a plan."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        text = plan_to_json(plan, with_graph=False)
        write_atomically(folder() / f"{key}.json", text)
    except OSError:
        return
