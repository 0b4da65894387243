"""What every measurement needs: where it was made, how long it took, where it goes."""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jax

RESULTS = pathlib.Path(__file__).parent / "results"
PACKAGES = ("jaxswap", "jax", "jaxlib", "flax", "torch")


def environment() -> dict[str, str]:
    """Return the hardware and the versions a measurement is made with."""
    return {"device": jax.devices()[0].device_kind, **surroundings()}


@functools.cache
def surroundings() -> dict[str, str]:
    """Return what is known of the machine without starting JAX on its GPU."""
    versions = {name: version_of(name) for name in PACKAGES}
    gpu = graphics_card()
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": _commit(),
        **({"driver": gpu["driver_version"]} if gpu else {}),
        **{name: version for name, version in versions.items() if version},
    }


def _commit() -> str:
    """The commit, and where files differ from it or there is none, what they hold."""
    folder = RESULTS.parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    commit = output_of(command) or "unknown"
    if not commit.endswith(("-dirty", "unknown")):
        return commit
    files = [*folder.glob("*.py"), *(folder.parent / "jaxswap").rglob("*.py")]
    held = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files)))
    return f"{commit}-{held.hexdigest()[:8]}"


def version_of(package: str) -> str | None:
    """Return the version of a package; `None` if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def graphics_card() -> dict[str, str] | None:
    """Return name, memory and driver of the first NVIDIA GPU; `None` without one."""
    fields = ("name", "driver_version", "memory.total")
    query = f"--query-gpu={','.join(fields)}"
    found = output_of(["nvidia-smi", query, "--format=csv,noheader,nounits"])
    if not found:
        return None
    values = [value.strip() for value in found.splitlines()[0].split(",")]
    return dict(zip(fields, values, strict=True))


def output_of(command: list[str]) -> str:
    """Return what a command prints; nothing if it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()


def record(measurement: dict[str, Any], output: pathlib.Path) -> None:
    """Print a measurement as one line of JSON and append it to a file."""
    if "environment" not in measurement:
        measurement = measurement | {"environment": environment()}
    line = json.dumps(measurement)
    print(line, flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab+") as file:
        # A process that was killed may have left half a line.
        is_empty = not file.tell()
        if not is_empty:
            file.seek(-1, os.SEEK_END)
        end = "" if is_empty or file.read() == b"\n" else "\n"
        file.write(f"{end}{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def rows_of(output: pathlib.Path) -> list[dict[str, Any]]:
    """Return what `record` wrote to a file, whole lines only; nothing without one."""
    if not output.exists():
        return []
    rows = []
    for line in output.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def seconds(call: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Time a call that is compiled already: median and spread, results awaited."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return summary(times)


def summary(times: list[float]) -> dict[str, Any]:
    """Return median and spread of the seconds of repeated steps."""
    return {
        "median_seconds": statistics.median(times),
        "min_seconds": min(times),
        "max_seconds": max(times),
        "repeats": len(times),
    }


def peak_bytes() -> int | None:
    """Return the most device memory this process ever used; None if not counted."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
