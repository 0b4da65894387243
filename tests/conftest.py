"""Settings every test runs under, made before JAX is first imported."""

import importlib.metadata
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# XLA takes longer to optimize small programs than to run them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=8"
    + (
        # Small programs compile in a third of the time.
        " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        if importlib.metadata.version("jaxlib") < "0.12"  # which lacks the first
        else ""
    ),
)
import collections
import functools
import gc
import itertools
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import durations
import jax
import pytest

import jaxswap

assert jaxswap.__version__  # Imported first, before XLA reads its flags.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

SCRATCH = tempfile.TemporaryDirectory(prefix="jaxswap-tests-")
"""What tests of this process may find of earlier ones, and nothing from before: plans,
and kernels of GPUs, which most programs share."""
os.environ["JAXSWAP_CACHE_DIR"] = f"{SCRATCH.name}/plans"
# Processes that compile side by side need a file each. The last of equal flags counts.
os.environ["XLA_FLAGS"] += f" --xla_gpu_kernel_cache_file={SCRATCH.name}/kernels"

TESTS = pathlib.Path(__file__).parent
OF_ONE_VERSION = ("medical", "_cli", "benchmarks", "_search", "hostile")
"""Folders of tests that one version of JAX is enough for: they stand on the public
interface alone, or know no JAX."""
SAMPLED = 3
"""With another version runs one in so many of a test's parameters."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `durations`."""
    text = "write how long each test took into this file"
    parser.addoption("--durations-file", type=pathlib.Path, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Measure; processes that the main one started hand it what they measured."""
    is_main = not hasattr(config, "workerinput")
    path = config.getoption("durations_file") if is_main else None
    config.pluginmanager.register(durations.Durations(path))


@functools.cache
def is_of_one_version(path: pathlib.Path) -> bool:
    return any(path.is_relative_to(TESTS / folder) for folder in OF_ONE_VERSION)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what one version of JAX is enough for; let modules with slow tests begin.

    Modules are what the processes take turns at: the last one should not be long.
    """
    count = collections.Counter[str]()
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    for item in items:
        function = item.nodeid.partition("[")[0]
        is_left_out = count[function] % SAMPLED > 0
        count[function] += 1
        is_everywhere = item.get_closest_marker("every_version") is not None
        if is_left_out or (is_of_one_version(item.path) and not is_everywhere):
            item.add_marker(pytest.mark.thorough)
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for garbage less often, and not among what is there for good.

    What is imported stays. JAX makes millions of small objects while it traces.
    """
    gc.disable()
    result = yield
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    gc.enable()
    return result


@pytest.fixture
def all_optimizations() -> Iterator[None]:
    """For what is about the machine code that users get."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def lenient_promotion() -> Iterator[None]:
    """Optax mixes integers and floats, and arrays of several ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def own_folders(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's plans and targets."""
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))


@pytest.fixture
def getkey() -> Callable[[], jax.Array]:
    """A function that returns another random key at each call, the same every run."""
    seeds = itertools.count(5678)
    return lambda: jax.random.key(next(seeds))
