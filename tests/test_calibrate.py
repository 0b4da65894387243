"""Measuring a device: the arithmetic, the programs, and what becomes of the result."""

import dataclasses
import functools
import math
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxswap import _calibrate
from jaxswap._calibrate import calibrate
from jaxswap._device import measure
from jaxswap._device.measure import (
    Convolution,
    Sizes,
    Stopwatch,
    both_ways_share,
    measure_rates,
    sizes_for,
)
from jaxswap._device.resolve import find_target
from jaxswap._device.topology import place_on
from jaxswap._gpu.rates import Rates
from jaxswap._gpu.saved import saved_targets
from jaxswap._gpu.target import built_in_target, rates_of
from jaxswap._trace.cost import flops_of

GIB = 2**30
TINY = Sizes(
    matmul_side=32,
    convolutions=(Convolution((4, 4, 4), 4), Convolution((8, 8), 4, 2)),
    array_bytes=2**16,
    copy_bytes=2**14,
)
H100 = built_in_target("h100")
MEASURED = dataclasses.replace(rates_of(H100), is_measured=True, source="a test")


class FakeTime:
    """A clock that only programs move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs = 0

    def read(self) -> float:
        return self.now

    def program(self, *seconds: float) -> Callable[[], None]:
        """Takes each of `seconds` in turn, and the last one from then on."""
        left = list(seconds)

        def run() -> None:
            self.runs += 1
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


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

    def measure(device: Any, sizes: Sizes, watch: Stopwatch, **options: Any) -> Rates:
        asked.append((device, sizes, watch))
        if options["progress"] is not None:
            options["progress"]("bf16 matmul: fast")
        return dataclasses.replace(MEASURED, source=options["source"])

    monkeypatch.setattr(_calibrate, "measure_rates", measure)
    return asked


def use(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calibrate, "default_device", lambda: device)


def test_first_runs_do_not_count() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=3, sample_seconds=0.01)
    assert watch.seconds(time.program(9.0, 5.0, 2.0)) == pytest.approx(2.0)
    assert time.runs == 2 + 1 + 3


def test_short_programs_are_repeated_within_a_sample() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=3, sample_seconds=0.01)
    assert watch.seconds(time.program(0.002)) == pytest.approx(0.002)
    assert time.runs == 2 + 1 + 3 * 5


def test_a_disturbed_sample_does_not_count() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=3, sample_seconds=0.01)
    assert watch.seconds(time.program(1, 1, 1, 1, 50.0, 1)) == pytest.approx(1)


def test_a_program_that_takes_no_time_has_a_rate() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=1)
    assert 0 < watch.seconds(time.program(0.0)) <= 1e-9
    assert time.runs == 2 + 1 + 1000


def test_a_link_is_what_a_longer_chain_adds() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=1)
    lengths = []

    def chain(count: int) -> Callable[[], None]:
        lengths.append(count)
        return time.program(0.5 + 0.01 * count)

    assert watch.seconds_per_link(chain, (4, 36)) == pytest.approx(0.01)
    assert lengths == [4, 36]


def test_a_link_is_timed_in_runs_that_do_not_overlap() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=1, sample_seconds=1.0)
    watch.seconds_per_link(lambda count: time.program(1e-6 * count), (4, 36))
    assert time.runs == 2 * (2 + 1 + 5)


def test_a_link_that_takes_no_time_has_a_rate() -> None:
    time = FakeTime()
    watch = Stopwatch(clock=time.read, repeats=1)
    assert watch.seconds_per_link(lambda count: time.program(1.0 / count), (4, 36)) > 0


@pytest.mark.parametrize(
    ("out_seconds", "in_seconds", "both_seconds", "share"),
    [
        (1.0, 1.0, 1.0, 1.0),  # neither notices the other
        (1.0, 1.0, 2.0, 0.5),  # one waits for the other
        (1.0, 3.0, 4.0, 0.5),
        (3.0, 1.0, 4.0, 0.5),
        (1.0, 3.0, 3.0, 1.0),
        (1.0, 1.0, 1.25, 0.8),
        (1.0, 1.0, 4.0, 0.25),  # worse than waiting
        (1.0, 1.0, 0.9, 1.0),  # noise
        (1.0, 3.0, 1.5, 1.0),
    ],
)
def test_share_of_two_copies(
    out_seconds: float, in_seconds: float, both_seconds: float, share: float
) -> None:
    found = both_ways_share(out_seconds, in_seconds, both_seconds)
    assert found == pytest.approx(share)


@pytest.mark.parametrize(
    "shape", [Convolution((4, 6, 8), 5, 3), Convolution((6, 8), 5, 3)]
)
def test_operations_of_convolutions_are_counted_as_elsewhere(
    shape: Convolution,
) -> None:
    rank = len(shape.spatial)
    axes = "DHW"[-rank:]
    names = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    x = jnp.ones((shape.batch, *shape.spatial, shape.channels))
    kernel = jnp.ones((3,) * rank + (shape.channels,) * 2)
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=(1,) * rank,
        padding="SAME",
        dimension_numbers=names,
    )
    jaxpr: Any = jax.make_jaxpr(convolve)(x, kernel)
    assert shape.flops == 3 * flops_of(jaxpr.jaxpr)


def test_a_convolution_is_measured_with_both_gradients() -> None:
    shape = Convolution((4, 6, 8), 5, 3)
    run = measure._convolve(shape, jnp.bfloat16, lax.Precision.DEFAULT)
    y, (dx, dkernel) = run()
    assert y.shape == dx.shape == (3, 4, 6, 8, 5)
    assert dkernel.shape == (3, 3, 3, 5, 5)
    assert y.dtype == dkernel.dtype == jnp.bfloat16
    assert bool(jnp.any(jnp.abs(dkernel) > 20))  # a sum over all 576 positions


@pytest.mark.parametrize("free_gib", [1, 2, 6, 16, 80])
def test_sizes_fit_in_free_memory(free_gib: int) -> None:
    sizes = sizes_for(free_gib * GIB)
    assert 3 * 4 * sizes.matmul_side**2 <= free_gib * GIB / 4
    assert 4 * sizes.array_bytes <= free_gib * GIB / 2
    assert 4 * sizes.copy_bytes <= free_gib * GIB / 4
    for shape in sizes.convolutions:
        values = math.prod(shape.spatial) * shape.channels * shape.batch
        assert 4 * 4 * values <= free_gib * GIB / 2
    assert {len(shape.spatial) for shape in sizes.convolutions} == {2, 3}


def test_quick_is_smaller() -> None:
    slow, quick = sizes_for(80 * GIB), sizes_for(80 * GIB, is_quick=True)
    assert quick.matmul_side < slow.matmul_side
    assert quick.array_bytes < slow.array_bytes
    assert quick.copy_bytes < slow.copy_bytes
    assert len(quick.convolutions) < len(slow.convolutions)


def test_too_little_memory_is_said() -> None:
    with pytest.raises(ValueError, match=r"0\.50 GiB of the device's memory are free"):
        sizes_for(GIB // 2)


def test_measuring_a_device_gives_rates() -> None:
    lines: list[str] = []
    devices: set[Any] = set()
    second = jax.devices()[1]

    class Spy(Stopwatch):
        def seconds(self, run: Callable[[], Any]) -> float:
            devices.update(*(leaf.devices() for leaf in jax.tree.leaves(run())))
            return super().seconds(run)

    watch = Spy(repeats=1, sample_seconds=0.0)
    sizes = dataclasses.replace(TINY, convolutions=(Convolution((4, 4), 2),))
    rates = measure_rates(second, sizes, watch, progress=lines.append, source="here")
    assert rates.is_measured  # `Rates` refuses what is not positive and finite
    assert rates.source == "here"
    assert devices == {second}
    assert len(lines) == 12
    assert lines[0].startswith("bf16 matmul: ")


def test_rates_are_work_by_time() -> None:
    """On a clock that ticks at each look, every program takes one second."""
    ticks = iter(range(10**6))
    watch = Stopwatch(clock=lambda: float(next(ticks)), repeats=1)
    rates = measure_rates(jax.devices()[0], TINY, watch)
    for precision in ("bf16", "tf32", "fp32"):
        assert getattr(rates, f"{precision}_matmul_flops_per_second") == 2 * 32**3
        assert getattr(rates, f"{precision}_convolution_flops_per_second") == (
            sum(shape.flops for shape in TINY.convolutions) / 2
        )
    assert rates.memory_bytes_per_second == 3 * 2**16
    assert rates.swap_out_bytes_per_second == 2**14
    assert rates.swap_in_bytes_per_second == 2**14
    assert rates.both_ways_share == 1.0
    assert rates.launch_seconds == 2 * rates.copy_latency_seconds <= 1e-9


def entry(program: Callable[[jax.Array], Any], target: str) -> str:
    """What a GPU would run, in order."""
    x = place_on(built_in_target(target), jax.ShapeDtypeStruct((1024,), jnp.float32))
    compiled = jax.jit(program).lower(x).compile(measure.OVERLAPPED)
    text = compiled.as_text() or ""
    return text[text.index("ENTRY") :]


@pytest.mark.parametrize("target", ["h100", "a100-80"])
def test_gpu_copies_both_ways_at_once(target: str) -> None:
    text = entry(measure._exchanges(3), target)
    order = re.findall(r" copy-(start|done)\(", text)
    one, both = ["start", "done"], ["start", "start", "done", "done"]
    assert order == [*one, *both * 3, *one]
    starts = [line for line in text.splitlines() if " copy-start(" in line]
    to_host = ["S(5)" in line.split(" = (")[1].split(",")[0] for line in starts]
    assert to_host[0]
    assert not to_host[-1]
    for first, second in zip(to_host[1:-1:2], to_host[2:-1:2], strict=True):
        assert first != second


def test_gpu_runs_every_link_of_a_chain() -> None:
    text = entry(measure._round_trips(5), "h100")
    assert len(re.findall(r" copy-start\(", text)) == 10
    text = entry(measure._launches(7), "h100")
    assert len(re.findall(r" fusion\(", text)) == 7


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
