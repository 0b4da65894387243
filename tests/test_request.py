"""What a refusal says about host memory, and what a smallest plan may take more."""

from types import SimpleNamespace
from typing import Any

import pytest
from scripted_search import FakeSearch, draft_of

from jaxswap._request import Request
from jaxswap._search.limits import Limits
from jaxswap._search.loops import Programs

GIB = 1 << 30


def needed(host_bytes: int, device_bytes: int, **options: Any) -> int | None:
    """Refuse a plan for 8 GiB, where a draft with more host memory needs so much."""
    draft = draft_of(device_bytes)
    line = SimpleNamespace(
        device_bytes=device_bytes, seconds=1.0, host_bytes=host_bytes
    )
    object.__setattr__(draft, "timeline", line)
    request = Request(target="h100", progress=False, **options)
    made: Any = SimpleNamespace(correction_bytes=GIB)
    search: Any = FakeSearch(lambda limits: draft)
    programs: Programs = SimpleNamespace(  # type: ignore[assignment]
        find=lambda limits, seconds: search.find(limits, {}, seconds)
    )
    return request._needed_host_bytes(made, programs, Limits(8 * GIB, GIB))


@pytest.mark.parametrize(
    ("host_gib", "device_gib", "expected"),
    [
        (3, 7, 3 * GIB),
        (3, 8, None),  # The compiled program would not fit.
        (1, 7, None),  # It is not host memory that is missing.
    ],
)
def test_a_refusal_names_the_host_memory_that_is_missing(
    host_gib: int, device_gib: int, expected: int | None
) -> None:
    found = needed(host_gib * GIB, device_gib * GIB, host_budget=GIB)
    assert found == expected


def test_without_a_host_budget_it_is_not_host_memory_that_is_missing() -> None:
    assert needed(3 * GIB, 7 * GIB) is None
