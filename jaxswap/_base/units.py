"""Bytes and seconds: text that people write -> numbers, and numbers -> text.

Binary units (`KiB`, `MiB`, `GiB`, `TiB`) are powers of 1024. Decimal units (`kB`, `MB`,
`GB`, `TB`) are powers of 1000. Both are as in IEC 80000-13.
"""

import math
import re

_UNIT_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_MOST_BYTES = 2**63
_QUANTITY = re.compile(r"\s*([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*([a-z]*)\s*")


def parse_bytes(value: int | str, argument: str = "budget") -> int:
    """Read a number of bytes from an integer or from text such as `"12GiB"`.

    Args:
        value: Bytes as an integer, or a number followed by `B`, `kB`, `MB`, `GB`,
            `TB`, `KiB`, `MiB`, `GiB` or `TiB`, in any case, with or without a space.
        argument: Name of the caller's argument, for the error messages.

    Returns:
        The number of bytes, rounded down to an integer.

    Raises:
        ValueError: If `value` is negative or cannot be read.

    Example:
        >>> parse_bytes("1.5 GiB")
        1610612736
        >>> parse_bytes("12GB")
        12000000000
    """
    if isinstance(value, str):
        nbytes = _parse_text(value, argument)
    elif isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(
            f'`{argument}` is {value!r}: give bytes as an integer or text like "12GiB".'
        )
    else:
        nbytes = int(value)
    if nbytes >= _MOST_BYTES:
        raise ValueError(f"`{argument}` is {value!r}: no memory has so many bytes.")
    if nbytes < 0:
        raise ValueError(f"`{argument}` is {value!r}: bytes cannot be negative.")
    return nbytes


def format_bytes(nbytes: int | float) -> str:
    """Write bytes with a binary unit and three or four significant digits.

    Args:
        nbytes: A number of bytes; negative for a difference.

    Returns:
        Text such as `"1.50 GiB"`; whole bytes below 1 KiB.

    Example:
        >>> format_bytes(1610612736)
        '1.50 GiB'
        >>> format_bytes(-512)
        '-512 B'
    """
    sign = "-" if nbytes < 0 else ""
    amount = abs(nbytes)
    if round(amount) < 1024:
        return f"{sign}{round(amount)} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        amount /= 1024
        if amount < 999.5 or unit == "TiB":
            break
    return f"{sign}{_three_digits(amount)} {unit}"


def format_seconds(seconds: float) -> str:
    """Write a duration with the unit that suits its size.

    Args:
        seconds: A duration; negative for a difference.

    Returns:
        Text such as `"1.50 ms"`, with units from `ns` to `s`.

    Example:
        >>> format_seconds(0.0015)
        '1.50 ms'
    """
    if not math.isfinite(seconds):
        return f"{seconds} s"
    sign = "-" if seconds < 0 else ""
    amount = abs(seconds)
    if amount == 0.0:
        return "0 s"
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if amount >= 0.9995 * scale:
            return f"{sign}{_three_digits(amount / scale)} {unit}"
    return f"{sign}{_three_digits(amount / 1e-9)} ns"


def _parse_text(text: str, argument: str) -> int:
    match = _QUANTITY.fullmatch(text.lower())
    unit = match.group(2) or "b" if match else ""
    if match is None or unit not in _UNIT_BYTES:
        raise ValueError(
            f"`{argument}` is {text!r}: cannot read it as bytes; "
            'write a number and a unit, such as "12GiB", "800 MB" or "4096".'
        )
    nbytes = float(match.group(1)) * _UNIT_BYTES[unit]
    return math.floor(nbytes) if abs(nbytes) < _MOST_BYTES else _MOST_BYTES


def _three_digits(amount: float) -> str:
    if amount < 9.995:
        return f"{amount:.2f}"
    if amount < 99.95:
        return f"{amount:.1f}"
    return f"{amount:.0f}"
