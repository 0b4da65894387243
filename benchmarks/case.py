"""What one measurement is of: a program, a method, a budget, a machine."""

import dataclasses
from typing import Any

GB = 10**9
"""Cards are counted in powers of ten: 16 GB are 93 % of the 16 GiB of such a card,
about what is left beside CUDA's context and the allocator's gaps."""
AS = "as "
"""A budget that begins so is what the named method was measured to need."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement, before it is made.

    Attributes:
        suite: What it is made for; two suites may share a measurement.
        workload: Name of the program, see `programs.find_program`.
        method: How its memory is saved, see `methods.METHODS`.
        budget: What a method that plans is given: a share of plain's device memory
            (`"50%"`), a card (`"16GB"`), what another method needs (`"as LMS"`),
            `"smallest"`, or nothing.
        backend: `"compiled"`, read from a program compiled for `target`, or `"device"`,
            timed on this machine's GPU.
        target: Name of the GPU that is compiled for; empty on a device.
        card: Size of the card that a device is limited to (`"16GB"`); empty for all.
        is_tiny: Whether a program of the same form that runs in seconds stands in.
    """

    suite: str
    workload: str
    method: str
    budget: str = ""
    backend: str = "compiled"
    target: str = "h100"
    card: str = ""
    is_tiny: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells two measurements apart, whichever suites they are made for."""
        return tuple(getattr(self, name) for name in KEY)

    def plain(self) -> "Case":
        """The measurement that a share of plain's memory refers to."""
        return dataclasses.replace(self, method="plain", budget="")


KEY = ("backend", "target", "workload", "method", "budget", "card", "is_tiny")


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return the key of the case that a row of results was measured for."""
    return tuple(row.get(name) for name in KEY)


def card_bytes(card: str) -> int:
    """Bytes of a card: `"16GB"` -> 16 * 10**9.

    Raises:
        ValueError: If it is not a whole number of GB.
    """
    number = card.removesuffix("GB")
    if not card.endswith("GB") or not number.isdecimal():
        raise ValueError(f"the card is {card!r}; write it like '16GB'.")
    return int(number) * GB


def budget_bytes(budget: str, plain: dict[str, Any] | None) -> int | str | None:
    """What `jaxswap.plan` takes as its budget.

    Args:
        budget: As in `Case`.
        plain: The plain program's measurement; `"bytes_of"` in it are the device bytes
            that other methods were measured to need.

    Raises:
        ValueError: If what the budget refers to was not measured.
    """
    if not budget:
        return None
    if budget == "smallest":
        return budget
    plain = plain or {}
    if budget.startswith(AS):
        found = plain.get("bytes_of", {}).get(budget.removeprefix(AS))
        if found is None:
            raise ValueError(f"budget {budget!r}: measure that method first.")
        return found
    if not budget.endswith("%"):
        return card_bytes(budget)
    if "device_bytes" not in plain:
        raise ValueError(f"{budget} of plain: measure plain first.")
    return int(plain["device_bytes"] * float(budget[:-1]) / 100)
