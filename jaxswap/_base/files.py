"""Files that are complete or absent, and the user's folders for them.

Everything that jaxswap keeps for a later run lies in one of a few folders. If
`$JAXSWAP_HOME` is set, it contains all of them. If not, measurements are in
`$XDG_CONFIG_HOME/jaxswap` (`~/.config/jaxswap`), and files that can be made again are
in `$XDG_CACHE_HOME/jaxswap` (`~/.cache/jaxswap`).
"""

import functools
import os
import stat
import tempfile
import uuid
from pathlib import Path

# Without `$JAXSWAP_HOME`: the variable that names the parent folder, and its default.
_CONFIG = ("XDG_CONFIG_HOME", "~/.config")
_CACHE = ("XDG_CACHE_HOME", "~/.cache")

# What was measured. All other kinds can be made again.
_MEASURED = {"targets"}

# An older variable that names the folder of one kind directly. It is still read.
_OWN_VARIABLES = {"plans": "JAXSWAP_CACHE_DIR"}


def user_folder(kind: str) -> Path:
    """Return the folder in which files of one kind are kept for later runs.

    It is in `$JAXSWAP_HOME`. If this is not set, saved targets are in
    `$XDG_CONFIG_HOME/jaxswap` (`~/.config/jaxswap`). All other kinds are in
    `$XDG_CACHE_HOME/jaxswap` (`~/.cache/jaxswap`). A user without a home folder gets
    one among the temporary files.

    Args:
        kind: Name of the folder, such as `"targets"` or `"plans"`.

    Returns:
        The folder. It may not exist yet.

    Raises:
        ValueError: If `kind` is not the name of a single folder.

    Example:
        >>> from jaxswap.extend import user_folder
        >>> user_folder("plans").name
        'plans'
    """
    if kind in ("", "..") or Path(kind).name != kind:
        raise ValueError(f"`kind` is {kind!r}; a folder's name is needed, as 'plans'.")
    own = os.environ.get(_OWN_VARIABLES.get(kind, ""))
    if own:
        return _at_home(own)
    home = os.environ.get("JAXSWAP_HOME")
    if home:
        return _at_home(home) / kind
    variable, usual = _CONFIG if kind in _MEASURED else _CACHE
    base = os.environ.get(variable) or usual
    return _at_home(base) / "jaxswap" / kind


def _at_home(path: str) -> Path:
    """Put the home folder in the place of `~`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # A user without an entry and without $HOME, in a container.
        return _temporary_home() / path.lstrip("~/")


@functools.cache
def _temporary_home() -> Path:
    """Return a folder that is this user's own, the same in each process if possible."""
    if not hasattr(os, "getuid"):
        return Path(tempfile.mkdtemp(prefix="jaxswap-"))
    folder = Path(tempfile.gettempdir()) / f"jaxswap-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    # Another user may have made it, or may write there: libraries are loaded from it.
    is_own = status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode)
    if is_own and not status.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix="jaxswap-"))


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file so that readers see either the old content or the whole new one.

    The content is written to a temporary file beside the old one. Then the temporary
    file replaces the old one. After an error or an interruption the old file is still
    there. Several threads and processes may write one path at a time: the last one
    wins.

    Args:
        path: The file; its folder must exist.
        content: What to write. A text is written in UTF-8.

    Returns:
        The path.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the file cannot be written.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path} to.")
    # `tempfile` is not used: its files cannot be read by other users.
    beside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        # Bytes of a file's name that are no UTF-8 are written as escapes.
        is_text = isinstance(content, str)
        encoded = content.encode(errors="backslashreplace") if is_text else content
        beside.write_bytes(encoded)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
