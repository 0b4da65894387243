"""The scaling study: its all-reduce by hand, its limits by name, and a tiny study."""

import dataclasses
import json
import pathlib

import jax.numpy as jnp
import pytest
from PIL import Image

import jaxswap
from benchmarks import scaling
from benchmarks.all_reduce import all_reduce_seconds
from benchmarks.scaling_report import ASSUMPTIONS, MARKERS, limits, table
from jaxswap.medical.networks.unet import UNet3D

DGX = jaxswap.find_node("dgx-h100")
NBYTES = 296_000_000


def test_a_ring_in_one_node_by_hand() -> None:
    sent = 2 * 7 / 8 * NBYTES / 370e9  # 82 % of 450 GB/s
    latency = 8.4e-6 + 14 * 3.4e-6
    assert all_reduce_seconds(NBYTES, 8, DGX) == pytest.approx(sent + latency)
    assert sent == pytest.approx(1.4e-3)


def test_a_ring_over_nodes_by_hand() -> None:
    sent = 2 * 63 / 64 * NBYTES / (370 / 450 * 400e9)  # 8 adapters of 50 GB/s
    latency = 8.4e-6 + 16 * 14e-6 + (126 - 16) * 3.4e-6
    assert all_reduce_seconds(NBYTES, 64, DGX) == pytest.approx(sent + latency)
    single = jaxswap.find_node("gh200-node")
    sent = 2 * 1 / 2 * NBYTES / (370 / 450 * 50e9)
    found = all_reduce_seconds(NBYTES, 2, single)
    assert found == pytest.approx(sent + 8.4e-6 + 2 * 14e-6)


@pytest.mark.parametrize("machine", scaling.machines())
def test_more_gpus_never_sum_faster(machine: str) -> None:
    node = scaling.machines()[machine]
    found = [all_reduce_seconds(NBYTES, n, node) for n in scaling.GPU_COUNTS]
    assert found[0] == 0
    assert found == sorted(found)


NOTHING = dict.fromkeys(["computation", *MARKERS], 0.0)


def test_the_largest_loss_is_named() -> None:
    assert scaling.limit_of(NOTHING | {"computation": 1.0}) == "computation"
    small = NOTHING | {"computation": 1.0, "all-reduce": 0.04}
    assert scaling.limit_of(small) == "computation"
    large = small | {"shared host link": 0.2, "host link": 0.1}
    assert scaling.limit_of(large) == "shared host link"
    assert limits([{"gpus": 1, "limit": "computation"}]) == "computation"
    rows = [{"gpus": n, "limit": "host link" if n > 4 else "plain"} for n in (1, 4, 8)]
    assert limits(rows) == "plain, host link from 8"


def test_gpus_that_share_nothing_are_planned_once() -> None:
    a100 = jaxswap.find_node("dgx-a100")
    assert [scaling.like(a100, n) for n in (1, 4, 8)] == [1, 1, 5]


def test_two_gpus_behind_a_switch_of_the_pcie_machine() -> None:
    node = scaling.machines()["V100 16 GB, PCIe 3"]
    alone, shared = (node.gpu_among(n).rates for n in (2, 4))
    assert alone is not None
    assert shared is not None
    assert alone.swap_in_bytes_per_second == pytest.approx(0.85 * 15.75e9)
    assert shared.swap_in_bytes_per_second == pytest.approx(0.425 * 15.75e9)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> jaxswap.Node:
    """A machine with two GPUs behind a slow link, and a small network for it."""
    network = UNet3D(base_filters=4, depth=2, segmentation_levels=1, dtype=jnp.float32)
    node = dataclasses.replace(
        jaxswap.find_node("dgx-a100"), name="tiny", gpu_count=2, socket_count=1
    )
    monkeypatch.setattr(scaling, "PAPER", network)
    monkeypatch.setattr(scaling, "machines", lambda: {"tiny": node})
    monkeypatch.setattr(
        scaling, "volumes", lambda _: (scaling.Volume(32, "float32", 0.5),)
    )
    monkeypatch.setattr(scaling, "GPU_COUNTS", (1, 2, 8))
    monkeypatch.setattr(scaling, "SEARCH_SECONDS", 0.2)
    return node


@pytest.mark.slow
def test_a_tiny_study(
    tiny: jaxswap.Node, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, picture = tmp_path / "rows.jsonl", tmp_path / "picture.png"
    words = ["--output", str(output), "--picture", str(picture)]
    scaling.main(words)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    by = {(row["method"], row["gpus"]): row for row in rows}
    assert len(by) == len(rows) == 9
    for method in ("plain", "planned"):
        found = [by[method, n]["voxels_per_second"] for n in (1, 2, 8)]
        each = [rate / n for rate, n in zip(found, (1, 2, 8), strict=True)]
        assert found == sorted(found)
        assert each == sorted(each, reverse=True)
    one, two = by["planned", 1], by["planned", 2]
    assert one["device_bytes"] <= one["budget_bytes"] < one["plain_bytes"]
    assert by["plain", 1]["voxels_per_second"] > one["voxels_per_second"]
    assert two["seconds"]["all-reduce"] > one["seconds"]["all-reduce"] == 0
    assert two["host_bytes"] <= tiny.host_bytes_each(2)
    scaling.main(words)
    assert len(output.read_text().splitlines()) == 9
    capsys.readouterr()
    scaling.main(["--table", "--plot", *words])
    head, line, *body = capsys.readouterr().out.splitlines()
    assert all(text.count("|") == head.count("|") for text in (line, *body[:3]))
    assert sum(text.startswith("- ") for text in body) == len(ASSUMPTIONS)
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 300


def test_what_does_not_fit_is_no_throughput(tiny: jaxswap.Node) -> None:
    small = dataclasses.replace(
        tiny, gpu=dataclasses.replace(tiny.gpu, memory_bytes=2**20)
    )
    row = scaling.measure(small, scaling.Volume(32, "float32"), "plain", 2)
    assert row["voxels_per_second"] is None
    assert row["limit"] == "device memory"
    assert "–" in table([row | {"machine": "small", "method": "plain"}])
