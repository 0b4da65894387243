"""Pinned host memory: how much there is, and what is said when it is too little."""

import pathlib
import re
import subprocess
import sys

import pytest

from jaxswap._gpu import host_memory
from jaxswap._gpu.host_memory import (
    HostMemoryError,
    available_ram_bytes,
    check_host_memory,
    xla_pool_bytes,
)

GIB = 2**30
VARIABLE = "XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 100 GiB free and XLA's default pool."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(host_memory, "available_ram_bytes", lambda: 100 * GIB)


def test_pool_is_64_gib_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert xla_pool_bytes() == 64 * GIB
    monkeypatch.setenv(VARIABLE, "200")
    assert xla_pool_bytes() == 200 * GIB


@pytest.mark.parametrize("text", ["", "64GB", "1.5", "0", "-8"])
def test_pool_that_cannot_be_read_is_named(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=f"{VARIABLE} is {text!r}: give a positive"):
        xla_pool_bytes()


def test_what_fits_passes() -> None:
    check_host_memory(0)
    check_host_memory(64 * GIB)
    check_host_memory(8 * GIB, limit_bytes=8 * GIB)


def test_the_users_budget_counts_first() -> None:
    with pytest.raises(HostMemoryError) as caught:
        check_host_memory(200 * GIB, limit_bytes=200 * GIB - 1)
    text = str(caught.value)
    assert text.startswith("the plan needs 200 GiB of pinned host memory and the host")
    assert VARIABLE not in text


def test_budget_that_is_too_small_says_both_sizes() -> None:
    with pytest.raises(HostMemoryError, match=r"needs 8.00 GiB .* budget is 4.00 GiB"):
        check_host_memory(8 * GIB, limit_bytes=4 * GIB)


def test_a_budget_of_nothing_is_a_budget() -> None:
    check_host_memory(0, limit_bytes=0)
    with pytest.raises(HostMemoryError, match="budget is 0 B"):
        check_host_memory(1, limit_bytes=0)


def test_a_larger_pool_is_not_suggested_where_memory_ends() -> None:
    with pytest.raises(HostMemoryError, match="machine has 100 GiB of free") as caught:
        check_host_memory(100 * GIB + 1, limit_bytes=500 * GIB)
    assert VARIABLE not in str(caught.value)


def test_the_pool_that_is_suggested_is_large_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(HostMemoryError, match=r"pool of it holds 64\.0 GiB") as caught:
        check_host_memory(80 * GIB)
    found = re.search(rf"{VARIABLE}=(\d+) ", str(caught.value))
    assert found is not None
    assert int(found.group(1)) == 90  # an eighth more than what is needed
    monkeypatch.setenv(VARIABLE, found.group(1))
    check_host_memory(80 * GIB)


def test_memory_that_the_system_does_not_tell_is_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_memory, "available_ram_bytes", lambda: None)
    monkeypatch.setenv(VARIABLE, "1000")
    check_host_memory(999 * GIB)


def test_for_another_machine_only_the_budget_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "much")
    check_host_memory(500 * GIB, is_local=False)
    check_host_memory(500 * GIB, limit_bytes=500 * GIB, is_local=False)
    with pytest.raises(HostMemoryError, match="host budget is 400 GiB"):
        check_host_memory(500 * GIB, limit_bytes=400 * GIB, is_local=False)


def test_it_is_a_value_error() -> None:
    assert issubclass(HostMemoryError, ValueError)


def test_free_memory_is_what_linux_calls_available(tmp_path: pathlib.Path) -> None:
    account = tmp_path / "meminfo"
    account.write_text("MemTotal: 900 kB\nMemFree: 100 kB\nMemAvailable:   300 kB\n")
    assert available_ram_bytes(account) == 300 * 1024


def test_a_container_may_leave_less(tmp_path: pathlib.Path) -> None:
    account = tmp_path / "meminfo"
    account.write_text("MemAvailable:   300 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("90000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 1000\n")
    assert available_ram_bytes(account, tmp_path) == 300 * 1024
    (tmp_path / "memory.max").write_text("100000\n")
    assert available_ram_bytes(account, tmp_path) == 11_000
    (tmp_path / "memory.max").write_text("80000\n")
    assert available_ram_bytes(account, tmp_path) == 0


def test_ulimit_may_leave_less(tmp_path: pathlib.Path) -> None:
    code = (
        "import resource; from jaxswap.extend import available_ram_bytes as left;"
        "resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, -1)); print(left())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert 0 < int(ran.stdout) < 3 * 2**30


@pytest.mark.parametrize("text", [None, "MemTotal: 900 kB\n", "MemAvailable: much\n"])
def test_free_pages_are_counted_where_linux_does_not_tell(
    text: str | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path / "meminfo"
    if text is not None:
        account.write_text(text)
    sizes = {"SC_AVPHYS_PAGES": 7, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(host_memory.os, "sysconf", sizes.__getitem__)
    assert available_ram_bytes(account) == 7 * 4096


def test_a_system_that_tells_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> int:
        raise ValueError(f"unrecognized configuration name {name}")

    monkeypatch.setattr(host_memory.os, "sysconf", unknown)
    assert available_ram_bytes(tmp_path / "none", tmp_path) is None


def test_this_machine_has_memory() -> None:
    available = available_ram_bytes()
    assert available is not None
    assert 2**20 < available < 2**50
