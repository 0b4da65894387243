"""Settings every test runs under, made before JAX is first imported."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import itertools
from collections.abc import Callable, Iterator

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What stands on the public interface alone needs one version of JAX only."""
    for item in items:
        if item.path.name.startswith(("test_medical_", "test_command_")):
            item.add_marker(pytest.mark.thorough)


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """For many small programs: XLA takes longer to optimize than to run them."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def getkey() -> Callable[[], jax.Array]:
    """A function that returns another random key at each call, the same every run."""
    seeds = itertools.count(5678)
    return lambda: jax.random.key(next(seeds))
