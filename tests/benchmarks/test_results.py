"""What was timed on a device is there, says where it comes from, and is shown."""

import pytest

from benchmarks import harness, tables

H200 = harness.RESULTS / "device-nvidia-h200.jsonl"
EARLY = [row for row in harness.rows_of(H200) if "source" in row]


def test_rows_of_an_earlier_form_say_where_they_come_from() -> None:
    sources = {(row["source"], row["device"]) for row in EARLY}
    assert sources == {("measured 2026-11-28 at commit 66b88ec", "NVIDIA H200")}
    counts = {name: 0 for name in ("steps", "torch", "convolutions")}
    for row in EARLY:
        counts[row["table"]] = counts.get(row["table"], 0) + 1
    assert counts == {
        "steps": 55,
        "torch": 6,
        "convolutions": 12,
        "convolutions_nhwc": 7,
        "triton_convolution": 9,
    }


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        ("at 66b88ec\n", "| plain |  | 3,817 | 1.00 |  |  | 4,616 | 57.69 | 1.00 |"),
        ("at 66b88ec\n", "| jaxswap | 50% | 2,074 | 0.54 | 486 |  | 5,391 | 62.61 |"),
        ("conv_nhwc\n", "| plain |  | 3,917 | 1.00 |  |  | 4,184 | 45.49 | 1.00 |"),
        ("conv_nhwc\n", "| jaxswap | 33% | 1,150 | 0.29 | 554 |  | 4,184 | 65.88 |"),
    ],
)
def test_channels_first_and_last_are_compared_apart(layout: str, line: str) -> None:
    shown = tables.tables(EARLY).split("### ")
    (table,) = [t for t in shown if t.startswith("unet3d-192-bf16:") and layout in t]
    assert line in table


def test_a_step_is_compared_with_plain_of_its_own_process() -> None:
    shown = tables.tables(EARLY)
    assert "| smallest | 1,386 | 0.36 | 1,998 |  | 5,391 | 172.39 | 3.01 |" in shown
