"""Files that are whole or not there, and the folders of a user that they lie in.

Everything that jaxswap keeps for a later run lies in one of a few folders. If
`$JAXSWAP_HOME` is set, all of them are in there. If not, what was measured is in
`$XDG_CONFIG_HOME/jaxswap` (`~/.config/jaxswap`), and what can be made again is in
`$XDG_CACHE_HOME/jaxswap` (`~/.cache/jaxswap`).
"""

import os
import uuid
from pathlib import Path

# Where each kind lies without `$JAXSWAP_HOME`: by which variable, else where.
_CONFIG = ("XDG_CONFIG_HOME", "~/.config")
_CACHE = ("XDG_CACHE_HOME", "~/.cache")
_BASES = {"targets": _CONFIG, "plans": _CACHE}

# An older variable that names the folder of one kind itself. It still counts.
_OWN_VARIABLES = {"plans": "JAXSWAP_CACHE_DIR"}


def user_folder(kind: str) -> Path:
    """Return the folder where things of one kind are kept for later runs.

    Args:
        kind: `"targets"` or `"plans"`.

    Returns:
        The folder; it need not exist.

    Example:
        >>> user_folder("plans").name
        'plans'
    """
    own = os.environ.get(_OWN_VARIABLES.get(kind, ""))
    if own:
        return Path(own).expanduser()
    home = os.environ.get("JAXSWAP_HOME")
    if home:
        return Path(home).expanduser() / kind
    variable, usual = _BASES[kind]
    base = os.environ.get(variable) or usual
    return Path(base).expanduser() / "jaxswap" / kind


def write_whole(path: Path, text: str) -> Path:
    """Write a file so that readers see the old one or the whole new one.

    The text goes into a file of its own beside the old one, which it then replaces. An
    error or an interruption leaves the old one, and any number of threads and processes
    may write one path at a time: the last one wins.

    Args:
        path: The file; its folder must exist.
        text: What to write, in UTF-8.

    Returns:
        The path.

    Raises:
        FileNotFoundError: If there is no such folder.
        OSError: If the file cannot be written.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path} to.")
    # Not by `tempfile`, whose files nobody else may read.
    beside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
