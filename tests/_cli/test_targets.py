"""`jaxswap targets`: the table, the JSON, and saved targets among them."""

import json

import pytest
from command_line import PLAN, Capture, refused, run, save_mine

from jaxswap._gpu.target import built_in_target, published_rates, target_names

pytestmark = pytest.mark.usefixtures("folder")


def test_targets_are_listed(capsys: Capture) -> None:
    assert run("targets") == 0
    head, *lines, machines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["name", "memory", "bandwidth"]
    assert [line.split()[0] for line in lines] == list(target_names())
    bases = {line.split()[0]: line.split("TFLOP/s")[1].strip() for line in lines}
    assert bases.pop("h200") == "published, 6 operations measured"
    assert set(bases.values()) == {"published"}
    assert machines.startswith("machines, ")
    assert "dgx-h100 (8 x h100)" in machines


def test_targets_are_written_as_json(capsys: Capture) -> None:
    assert run("targets", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(target_names())
    for row in rows:
        assert row["memory_bytes"] > 0
        assert row["rates"]["bf16_matmul_flops_per_second"] > 0


def test_saved_targets_are_listed_too(capsys: Capture) -> None:
    path = save_mine(rates=published_rates(built_in_target("h100")))
    assert run("targets") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split()[0] == "mine"
    assert len(lines) == len(target_names()) + 3
    for target in ("mine", str(path)):
        assert run("plan", "programs:tiny", "--target", target, *PLAN[4:]) == 0
        assert capsys.readouterr().out.startswith("plan for mine")
    path.write_text("junk")
    assert "mine.json" in refused(capsys, "targets")
