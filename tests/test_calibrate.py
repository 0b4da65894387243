"""What becomes of a measurement: where it is saved, and for which GPU."""

import dataclasses
import pathlib
import re
from typing import Any

import jax
import pytest

from jaxswap import _calibrate
from jaxswap._calibrate import calibrate
from jaxswap._device.resolve import find_target
from jaxswap._device.samples import Sizes, sizes_for
from jaxswap._device.stopwatch import Stopwatch
from jaxswap._gpu.rates import Rates
from jaxswap._gpu.saved import saved_targets
from jaxswap._gpu.target import built_in_target, rates_of

GIB = 2**30
H100 = built_in_target("h100")
MEASURED = dataclasses.replace(rates_of(H100), is_measured=True, source="a test")


@dataclasses.dataclass
class FakeGpu:
    """As much of a `jax.Device` as `calibrate` looks at."""

    device_kind: str = H100.device_name
    platform: str = "gpu"
    stats: dict[str, int] | None = None

    def memory_stats(self) -> dict[str, int] | None:
        return self.stats


@pytest.fixture(autouse=True)
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked to be measured; `MEASURED` comes out."""
    asked: list[tuple[Any, ...]] = []

    def measure(
        device: Any, core_count: int, sizes: Sizes, watch: Stopwatch, **options: Any
    ) -> Rates:
        assert core_count > 0
        asked.append((device, sizes, watch))
        if options["progress"] is not None:
            options["progress"]("bf16 matmul: fast")
        return dataclasses.replace(MEASURED, source=options["source"])

    monkeypatch.setattr(_calibrate, "measure_rates", measure)
    return asked


def use(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calibrate, "default_device", lambda: device)


def test_arguments_of_no_function_are_refused() -> None:
    with pytest.raises(ValueError, match="but no `fn`"):
        calibrate(has_aux=True)


def test_without_a_gpu_there_is_nothing_to_calibrate() -> None:
    with pytest.raises(RuntimeError, match=r"calibrate needs a GPU.* target='h100'"):
        calibrate()
    with pytest.raises(RuntimeError, match="calibrate needs a GPU"):
        calibrate(device=jax.devices()[1], like="h100")


def test_what_was_measured_is_saved_and_found(
    home: pathlib.Path, measured: list[tuple[Any, ...]]
) -> None:
    lines: list[str] = []
    stats = {"bytes_limit": 8 * GIB, "bytes_in_use": 3 * GIB}
    mine = calibrate(device=FakeGpu(stats=stats), progress=lines.append)
    assert mine.name == "h100"
    assert mine.rates is not None
    assert mine.rates.is_measured
    assert re.fullmatch(
        rf"measured on NVIDIA H100 80GB HBM3, \d{{4}}-\d\d-\d\d, JAX {jax.__version__}",
        mine.rates.source,
    )
    assert dataclasses.replace(mine, rates=None) == H100
    assert measured[0][1] == sizes_for(5 * GIB) != sizes_for(8 * GIB)
    path = home / "targets" / "h100.json"
    assert path.exists()
    assert lines == ["bf16 matmul: fast", f"saved as h100 in {path}"]
    assert find_target("H100") == mine
    assert find_target(str(path)) == mine
    assert built_in_target("h100") == H100


def test_quick_takes_less(measured: list[tuple[Any, ...]]) -> None:
    stats = {"bytes_limit": 80 * GIB}
    calibrate(device=FakeGpu(stats=stats), quick=True)
    calibrate(device=FakeGpu(stats=stats))
    (_, quick, few), (_, slow, many) = measured
    assert quick == sizes_for(80 * GIB, is_quick=True) != slow
    assert few.repeats < many.repeats


def test_saving_can_be_left_out(
    home: pathlib.Path, measured: list[tuple[Any, ...]]
) -> None:
    mine = calibrate(device=FakeGpu(), save=False)
    assert mine.rates is not None
    assert len(measured) == 1
    assert not (home / "targets").exists()
    assert find_target("h100") == H100


def test_a_folder_that_cannot_be_made_is_noticed_before_measuring(
    home: pathlib.Path,
    measured: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("JAXSWAP_HOME", str(home / "file"))
    with pytest.raises(OSError, match="file"):
        calibrate(device=FakeGpu())
    assert not measured


def test_an_unknown_gpu_needs_a_description(measured: list[tuple[Any, ...]]) -> None:
    with pytest.raises(ValueError, match=r"'NVIDIA X' is not a known GPU.*like="):
        calibrate(device=FakeGpu("NVIDIA X"))
    assert not measured
    lab = dataclasses.replace(H100, name="lab", core_count=99)
    mine = calibrate(device=FakeGpu("NVIDIA X"), like=lab)
    assert (mine.name, mine.device_name, mine.core_count) == ("lab", "NVIDIA X", 99)
    assert calibrate(device=FakeGpu("NVIDIA X")) == mine  # known from now on


def test_an_unknown_gpu_like_a_known_one_gets_its_own_name(
    measured: list[tuple[Any, ...]],
) -> None:
    mine = calibrate(device=FakeGpu("NVIDIA X"), like="a100-80")
    assert (mine.name, mine.device_name) == ("NVIDIA X", "NVIDIA X")
    assert mine.core_count == built_in_target("a100-80").core_count
    assert set(saved_targets()) == {"NVIDIA X"}
    assert calibrate(device=FakeGpu(), like="h100").name == "h100"
    with pytest.raises(ValueError, match="`target` is 'v100'"):
        calibrate(device=FakeGpu("NVIDIA X"), like="v100")
    assert len(measured) == 2


@pytest.mark.parametrize("stats", [None, {}, {"bytes_in_use": 5}])
def test_a_device_that_does_not_tell_its_memory_is_measured_with_little(
    stats: dict[str, int] | None, measured: list[tuple[Any, ...]]
) -> None:
    calibrate(device=FakeGpu(stats=stats))
    assert measured[0][1] == sizes_for(2 * GIB)
