"""Names, files, targets and nothing at all -> the GPU that is meant."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxswap
from jaxswap._device import resolve
from jaxswap._device.resolve import default_device, find_target
from jaxswap._gpu.saved import save_target
from jaxswap._gpu.target import Target, built_in_target, published_rates

H100 = built_in_target("h100")
MEASURED = dataclasses.replace(published_rates(H100), is_measured=True)


@dataclasses.dataclass
class FakeGpu:
    """As much of a `jax.Device` as is looked at."""

    device_kind: str = H100.device_name
    platform: str = "gpu"


@pytest.fixture(autouse=True)
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path))
    return tmp_path


def use(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "default_device", lambda: device)


def test_a_target_resolves_to_itself() -> None:
    assert find_target(H100) is H100


def test_saved_targets_go_before_built_in_ones(home: pathlib.Path) -> None:
    assert find_target("h100") == H100
    mine = dataclasses.replace(H100, rates=MEASURED)
    save_target(mine)
    assert find_target("H-100") == mine
    assert find_target("h200") == built_in_target("h200")
    with pytest.raises(ValueError, match="`target` is 'v100'"):
        find_target("v100")


def test_a_path_resolves_to_what_is_in_it(tmp_path: pathlib.Path) -> None:
    mine = dataclasses.replace(H100, name="mine", rates=MEASURED)
    path = save_target(mine, tmp_path / "elsewhere")
    assert find_target(str(path)) == mine
    with pytest.raises(FileNotFoundError):
        find_target(str(tmp_path / "h100.json"))


def test_none_is_the_gpu_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    use(FakeGpu(), monkeypatch)
    assert find_target(None) == H100
    mine: Target = dataclasses.replace(H100, name="lab", rates=MEASURED)
    save_target(mine)
    assert find_target(None) == mine
    use(FakeGpu("NVIDIA X"), monkeypatch)
    with pytest.raises(ValueError, match=r"GPU here, 'NVIDIA X', is not known.*like="):
        find_target(None)


def test_none_on_a_machine_without_gpu_asks_for_a_name() -> None:
    with pytest.raises(ValueError, match=r"no GPU here, only .* target='h100'"):
        find_target(None)


def test_default_device_is_that_of_jax() -> None:
    first, second, *_ = jax.devices()
    assert default_device() == first
    with jax.default_device(second):
        assert default_device() == second
    with jax.default_device("cpu"):
        assert default_device() == first


@pytest.mark.parametrize("is_file", [False, True], ids=["name", "file"])
def test_every_verb_knows_saved_targets(home: pathlib.Path, is_file: bool) -> None:
    path = save_target(dataclasses.replace(H100, name="mine"))
    target = path if is_file else "mine"

    def loss(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(x @ x))

    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    given: dict[str, Any] = {"target": target, "progress": False}
    assert jaxswap.find_target(target).name == "mine"
    assert jaxswap.inspect(loss, x, target=target).target == "mine"
    assert jaxswap.plan(loss, x, compile=False, **given).target.name == "mine"
    curve = jaxswap.pareto(loss, x, budgets=["1MiB"], **given)
    assert curve.target == "mine"
