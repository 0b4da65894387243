"""Bytes and seconds, read and written."""

import pytest

from jaxswap._base.units import format_bytes, format_seconds, parse_bytes


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("12GiB", 12 * 2**30),
        ("12GB", 12 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("800 mb", 800 * 10**6),
        ("16kib", 16384),
        ("2 TiB", 2**41),
        ("1e3 kB", 10**6),
        ("4096", 4096),
        ("7 B", 7),
        (" 0 ", 0),
        (4096, 4096),
        (0, 0),
    ],
)
def test_bytes_are_read(text: int | str, nbytes: int) -> None:
    assert parse_bytes(text) == nbytes


@pytest.mark.parametrize("value", ["", "GiB", "12 gigabytes", "1,5 GiB", "nan", "12 G"])
def test_unreadable_bytes_name_the_argument_and_show_how(value: str) -> None:
    with pytest.raises(ValueError, match=r"`reserve` is .* such as \"12GiB\""):
        parse_bytes(value, argument="reserve")


@pytest.mark.parametrize("value", [1.5, True, None, b"12GiB"])
def test_other_types_are_no_bytes(value: object) -> None:
    with pytest.raises(ValueError, match=r"`budget` is .* as an integer or text"):
        parse_bytes(value)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("value", [-1, "-1 GiB"])
def test_bytes_are_not_negative(value: int | str) -> None:
    with pytest.raises(ValueError, match=r"`budget` is .* cannot be negative"):
        parse_bytes(value)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (10 * 2**20, "10.0 MiB"),
        (320 * 2**20, "320 MiB"),
        (1000 * 2**20, "0.98 GiB"),
        (3 * 2**29, "1.50 GiB"),
        (5000 * 2**40, "5000 TiB"),
        (-(2**20), "-1.00 MiB"),
    ],
)
def test_bytes_are_written_with_binary_units(nbytes: int, text: str) -> None:
    assert format_bytes(nbytes) == text


@pytest.mark.parametrize("nbytes", [2**k for k in range(0, 45, 5)])
def test_written_powers_of_two_are_read_back(nbytes: int) -> None:
    assert parse_bytes(format_bytes(nbytes)) == nbytes


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (12.34, "12.3 s"),
        (1.0, "1.00 s"),
        (0.99999, "1.00 s"),
        (0.0015, "1.50 ms"),
        (25e-6, "25.0 us"),
        (3e-9, "3.00 ns"),
        (-0.25, "-250 ms"),
        (float("inf"), "inf s"),
    ],
)
def test_seconds_are_written_with_a_fitting_unit(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
