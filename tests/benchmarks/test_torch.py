"""PyTorch's ways to save memory leave its gradient alone; skipped without PyTorch."""

import json
import pathlib

import pytest

from benchmarks import suites
from benchmarks.__main__ import main

torch = pytest.importorskip("torch")


def test_each_method_has_plain_pytorchs_gradient() -> None:
    from benchmarks import torch_device

    for method in torch_device.METHODS:
        assert torch_device.gradient_error(method, torch_device.TINY, 8) < 1e-5, method


def test_saved_tensors_leave_and_come_back() -> None:
    from benchmarks.torch_offload import OffloadSavedTensors

    x = torch.linspace(0, 1, 5, requires_grad=True)
    with OffloadSavedTensors(least_bytes=0) as _:
        y = (x.sin() * x).sum()
    y.backward()
    expected = x.detach().sin() + x.detach() * x.detach().cos()
    assert torch.allclose(x.grad, expected)


@pytest.mark.slow
def test_pytorch_is_compared_on_the_device(tmp_path: pathlib.Path) -> None:
    output = tmp_path / "rows.jsonl"
    method = "torch offload, own streams"
    options = ["--backend", "device", "--tiny", "--suite", "unet3d"]
    options += ["--workload", "unet3d-128-fp32", "--method", method]
    assert suites.has_torch(is_tiny=True)
    assert main([*options, "--output", str(output)]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["method"] for row in rows] == ["plain", method]
    assert rows[1]["gradient_error"] < 1e-5
    assert rows[1]["median_seconds"] > 0
