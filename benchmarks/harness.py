"""What every measurement needs: where it was made, how long it took, where it goes."""

import importlib.metadata
import json
import pathlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jax

RESULTS = pathlib.Path(__file__).parent / "results"


def environment() -> dict[str, str]:
    """Return the hardware and the versions a measurement is made with."""
    packages = ("jaxswap", "jax", "jaxlib", "flax")
    versions = {name: importlib.metadata.version(name) for name in packages}
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "device": jax.devices()[0].device_kind,
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": done.stdout.strip() or "unknown",
        **versions,
    }


def record(measurement: dict[str, Any], output: pathlib.Path) -> None:
    """Print a measurement as one line of JSON and append it to a file."""
    line = json.dumps(measurement | {"environment": environment()})
    print(line, flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("a") as file:
        file.write(line + "\n")


def rows_of(output: pathlib.Path) -> list[dict[str, Any]]:
    """Return what `record` wrote to a file; nothing if there is none."""
    if not output.exists():
        return []
    return [json.loads(line) for line in output.read_text().splitlines()]


def seconds(call: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Time a call that is compiled already: median and spread, results awaited."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return {
        "median_seconds": statistics.median(times),
        "min_seconds": min(times),
        "max_seconds": max(times),
        "repeats": repeats,
    }


def peak_bytes() -> int | None:
    """Return the most device memory this process ever used; None if not counted."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
