"""`jaxswap inspect`: output and bad input."""

import json
from pathlib import Path

import pytest
from command_line import PLAN, Capture, refused, run, save_mine

import jaxswap

pytestmark = pytest.mark.usefixtures("folder")


def test_inspect_writes_json(capsys: Capture) -> None:
    assert run("inspect", "programs:tiny", "--target", "h100", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"] == "h100"
    parts = ("argument_bytes", "output_bytes", "temp_bytes")
    total = sum(found[name] for name in parts) - found["alias_bytes"]
    assert found["device_bytes"] == total > 0
    assert found["host_bytes"] == found["swapped_bytes"] == 0
    assert found["copies"] == []
    assert "hlo_text" not in found


def test_inspect_writes_text_and_follows_a_saved_plan(
    folder: Path, capsys: Capture
) -> None:
    assert run(*PLAN, "--save", "plan.json") == 0
    plan = jaxswap.load_plan("plan.json").with_action("tanh", jaxswap.OFFLOAD)
    assert plan.swaps
    plan.save("plan.json")
    capsys.readouterr()
    words = ["inspect", "programs:tiny", "--target", "h100"]
    assert run(*words, "--plan", "plan.json") == 0
    written = capsys.readouterr()
    assert written.out.startswith("compiled for h100 in ")
    assert "no copies between device and host" not in written.out
    words[1] = "programs:single"
    other = refused(capsys, *words, "--plan", "plan.json")
    assert "the plan was made for other arguments" in other


BAD_INSPECTIONS: dict[str, tuple[list[str], str]] = {
    "unknown program": (["gone:tiny"], "cannot be imported"),
    "unknown target": (["programs:tiny", "--target", "abacus"], "not a known GPU"),
    "no such plan": (["programs:tiny", "--plan", "gone.json"], "gone.json"),
    "no plan": (
        ["programs:tiny", "--plan", "programs.py"],
        "programs.py is not a plan",
    ),
    "nothing leaves": (["programs:tiny", "--compress", "int8"], "needs --offload"),
    "unknown type": (
        ["programs:tiny", "--offload", "--compress", "int4"],
        "`compress` is 'int4'",
    ),
    "no scalar": (["programs:vector", "--target", "h100"], "scalar"),
}


@pytest.mark.parametrize(
    ("words", "message"), BAD_INSPECTIONS.values(), ids=BAD_INSPECTIONS
)
def test_bad_inspection_is_one_line(
    capsys: Capture, words: list[str], message: str
) -> None:
    assert message in refused(capsys, "inspect", *words)


@pytest.mark.parametrize("by_name", [True, False], ids=["name", "file"])
def test_inspect_takes_a_saved_target_as_plan_does(
    capsys: Capture, by_name: bool
) -> None:
    """As the help says: a GPU by name, or a saved target's file."""
    target = "mine" if by_name else str(save_mine())
    save_mine()
    assert run("inspect", "programs:tiny", "--target", target) == 0
    assert capsys.readouterr().out.startswith("compiled for mine in ")


def test_inspect_refuses_offload_beside_a_plan(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("inspect", "programs:tiny", "--offload", "--plan", "plan.json")
    assert stopped.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err
