"""Libraries that only parts of jaxswap need, and the extras that install them."""

import contextlib
from collections.abc import Iterator

from jaxswap._base.errors import MissingExtraError

EXTRAS = {
    "absl": ("medical",),
    "grain": ("medical",),
    "matplotlib": ("plots", "medical"),
    "nilearn": ("data",),
    "orbax": ("medical",),
    "rich": ("medical",),
    "tensorboardX": ("medical",),
    "yaml": ("medical",),
}
"""By a library's import name: the extras of pyproject.toml that install it."""


def extras_of(error: BaseException) -> tuple[str, ...]:
    """Return the extras that install the library that an import missed.

    Returns:
        Their names. Empty if the error is of another kind, or of another library.

    Example:
        >>> extras_of(ModuleNotFoundError("No module named 'grain'", name="grain"))
        ('medical',)
    """
    is_missing = isinstance(error, ModuleNotFoundError)
    name = error.name if is_missing else None
    return EXTRAS.get((name or "").partition(".")[0], ())


@contextlib.contextmanager
def named_extras(preferred: str = "") -> Iterator[None]:
    """Make the error of a missing library name the extra to install.

    Args:
        preferred: The extra to name if several extras install the library.

    Raises:
        MissingExtraError: If an import in the `with` block misses such a library.

    Example:
        >>> with named_extras():
        ...     raise ModuleNotFoundError("No module named 'grain'", name="grain")
        Traceback (most recent call last):
        ...
        jaxswap._base.errors.MissingExtraError: this needs `grain`, which is not ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extras = extras_of(error)
        if not extras:
            raise
        extra = preferred if preferred in extras else extras[0]
        raise MissingExtraError(
            f"this needs `{error.name}`, which is not installed: "
            f'pip install "jaxswap[{extra}]".'
        ) from error
