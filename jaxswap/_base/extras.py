"""Libraries that only some of jaxswap needs, and the extras that bring them."""

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
"""The extras of pyproject.toml that bring a library, by the name it is imported as."""


def extras_of(error: BaseException) -> tuple[str, ...]:
    """Return the extras that bring the library for want of which an import failed.

    Returns:
        Their names; none if the error is another one, or of another library.

    Example:
        >>> extras_of(ModuleNotFoundError("No module named 'grain'", name="grain"))
        ('medical',)
    """
    is_missing = isinstance(error, ModuleNotFoundError)
    name = error.name if is_missing else None
    return EXTRAS.get((name or "").partition(".")[0], ())


@contextlib.contextmanager
def named_extras(preferred: str = "") -> Iterator[None]:
    """Let the error of a missing library say which extra to install.

    Args:
        preferred: The extra to name if several bring the library.

    Raises:
        MissingExtraError: If an import within fails for want of such a library.

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
