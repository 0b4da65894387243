"""The commands `plan`, `inspect`, `targets` and `calibrate`: output, files, exit codes.

Programs are factories in modules that each test finds in its own current folder.
"""

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

import jaxswap
from jaxswap import policies
from jaxswap._cli import commands
from jaxswap._cli import main as cli
from jaxswap._gpu.saved import save_target
from jaxswap._gpu.target import find_target, published_rates, target_names

SOURCE = """
import jax
import jax.numpy as jnp


class Factories:
    def inner():
        return tiny()


def loss(weights, x):
    for w in weights:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def tiny():
    w = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    return loss, ([w] * 3, jax.ShapeDtypeStruct((64, 16), jnp.float32))


def single():
    return lambda x: jnp.sum(x * x), jax.ShapeDtypeStruct((64, 16), jnp.float32)


def listed():
    fn, args = tiny()
    return fn, list(args)


def nonsense():
    return 3


def numbers():
    return 3, 4


def text():
    return loss, "abc"


def vector():
    return lambda x: x, (jax.ShapeDtypeStruct((4,), jnp.float32),)


def needy(argument):
    return tiny()


constant = 5
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder of a test, with the programs in it."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (work / "programs.py").write_text(SOURCE)
    (work / "needs_gone.py").write_text("import gone_and_lost")
    known = set(sys.modules)
    importlib.invalidate_caches()
    yield work
    for name in set(sys.modules) - known:
        if str(work) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


Capture = pytest.CaptureFixture[str]
PLAN = ["plan", "programs:tiny", "--target", "h100", "--no-compile", "--quiet"]


def run(*words: str) -> int:
    return cli.main(list(words))


def refused(capsys: Capture, *words: str) -> str:
    """The one line that a command with bad input writes."""
    assert run(*words) == 2
    written = capsys.readouterr()
    assert written.out == ""
    (line,) = written.err.splitlines()
    assert line.startswith("jaxswap: ")
    return line


def test_plan_is_written_as_text(capsys: Capture) -> None:
    assert run(*PLAN, "--budget", "25KiB") == 0
    written = capsys.readouterr()
    assert written.out.startswith("plan for h100 (NVIDIA H100")
    assert "25.0 KiB" in written.out
    assert written.err == ""


def test_plan_is_written_as_json(capsys: Capture) -> None:
    words = ["--budget", "30KiB", "--reserve", "5KiB", "--host-budget", "1MiB"]
    assert run(*PLAN, "--json", *words) == 0
    written = capsys.readouterr()
    found = json.loads(written.out)
    assert written.err == ""
    assert found["target"] == "h100"
    assert found["budget_bytes"] == 30 * 1024
    assert found["reserve_bytes"] == 5 * 1024
    assert found["host_budget_bytes"] == 1 << 20
    assert found["predicted_device_bytes"] <= 25 * 1024
    assert found["compiled"] is None
    assert found["rows"]
    assert found["arguments"] == ["float32[16,16]"] * 3 + ["float32[64,16]"]


@pytest.mark.parametrize(
    "program", ["programs:single", "programs:listed", "programs:Factories.inner"]
)
def test_programs_of_other_forms(capsys: Capture, program: str) -> None:
    words = ["plan", program, *PLAN[2:], "--json"]
    assert run(*words) == 0
    assert json.loads(capsys.readouterr().out)["budget_bytes"] > 1 << 36


def test_the_smallest_can_be_asked_for(capsys: Capture) -> None:
    assert run(*PLAN, "--json") == 0
    kept = json.loads(capsys.readouterr().out)["predicted_device_bytes"]
    assert run(*PLAN, "--json", "--budget", "smallest") == 0
    assert json.loads(capsys.readouterr().out)["predicted_device_bytes"] < kept


@pytest.mark.parametrize("name", [*policies.PUBLISHED, *policies.JAX_OWN])
def test_policies_are_known_by_name(capsys: Capture, name: str) -> None:
    assert run(*PLAN, "--json", "--policy", name) == 0
    assert json.loads(capsys.readouterr().out)["policy"].startswith(f"{name}(")


def test_progress_is_written_unless_quiet(capsys: Capture) -> None:
    assert run(*[word for word in PLAN if word != "--quiet"]) == 0
    written = capsys.readouterr()
    assert written.err.startswith("jaxswap: planning for ")
    assert "planning for" not in written.out


def test_files_are_written(folder: Path, capsys: Capture) -> None:
    words = ["--html", "a.html", "--plot", "b.svg", "--save", "c.json"]
    assert run(*PLAN, "--budget", "25KiB", *words) == 0
    assert capsys.readouterr().out.startswith("plan for h100")
    assert "<html" in (folder / "a.html").read_text()
    assert "<svg" in (folder / "b.svg").read_text()
    plan = jaxswap.load_plan(folder / "c.json")
    assert plan.budget_bytes == 25 * 1024
    assert plan.timeline.device_bytes <= 25 * 1024


def test_budgets_are_drawn_against_step_times(folder: Path) -> None:
    words = ["plan", "programs:single", *PLAN[2:]]  # nothing to decide, so soon done
    assert run(*words, "--pareto", "d.png") == 0
    assert (folder / "d.png").read_bytes().startswith(b"\x89PNG")


BAD_PROGRAMS = {
    "programs": "`programs` is neither unet3d nor of the form package.module:factory",
    "programs:": "neither unet3d nor of the form",
    "unet4d": "`unet4d` is neither unet3d",
    "gone:tiny": "`gone:tiny` cannot be imported: No module named 'gone'",
    ":tiny": "`:tiny` cannot be imported",
    ".programs:tiny": "`.programs:tiny` cannot be imported",
    "programs:gone": "`programs:gone` cannot be imported",
    "programs:Factories.gone": "`programs:Factories.gone` cannot be imported",
    "needs_gone:tiny": "cannot be imported: No module named 'gone_and_lost'",
    "programs:constant": "`programs:constant` is no function",
    "programs:nonsense": "programs:nonsense returned int; it must return the loss",
    "programs:numbers": "programs:numbers returned tuple; it must return the loss",
    "programs:needy": "`programs:needy` cannot be called: needy() missing 1 required",
    "programs:vector": "`fn` must return a scalar",
    "programs:text": "missing 1 required positional argument",
}


@pytest.mark.parametrize(("program", "message"), BAD_PROGRAMS.items(), ids=BAD_PROGRAMS)
def test_bad_program_is_one_line(capsys: Capture, program: str, message: str) -> None:
    assert message in refused(capsys, "plan", program, *PLAN[2:])


BAD_OPTIONS: list[tuple[list[str], str]] = [
    (["--target", "abacus"], "`target` is 'abacus', which is not a known GPU"),
    (["--budget", "plenty"], "`budget` is 'plenty': cannot read it as bytes"),
    (["--budget", "-5"], "`budget` is '-5': bytes cannot be negative"),
    (["--budget", "7KiB"], "`budget` is 7.00 KiB; the smallest that was found to work"),
    (["--reserve", "some"], "`reserve` is 'some'"),
    (["--host-budget", "much"], "`host_budget` is 'much'"),
    (["--most-compiles", "0"], "`most_compiles` is 0"),
    (["--policy", "Magic"], "--policy is `Magic`; choose one of TFLMSv2, Imai2018"),
    (["--size", "32"], "--size and --dtype are for unet3d alone"),
    (["--dtype", "float32"], "--size and --dtype are for unet3d alone"),
    (["--html", "gone/a.html"], "there is no folder gone to write gone/a.html to"),
    (["--save", "gone/a.json"], "there is no folder gone"),
    (["--plot", "gone/a.png"], "there is no folder gone"),
    (["--pareto", "gone/a.png"], "there is no folder gone"),
    (["--plot", "a.pdf"], "a.pdf must end with .png or .svg"),
    (["--plot", "a"], "a must end with .png or .svg"),
    (["--pareto", "a.jpg"], "a.jpg must end with .png or .svg"),
]


@pytest.mark.parametrize(
    ("options", "message"), BAD_OPTIONS, ids=["=".join(o) for o, _ in BAD_OPTIONS]
)
def test_bad_option_is_one_line_and_nothing_is_written(
    folder: Path, capsys: Capture, options: list[str], message: str
) -> None:
    before = {path.name for path in folder.iterdir()}
    assert message in refused(capsys, *PLAN, *options)
    after = {path.name for path in folder.iterdir()} - {"__pycache__"}
    assert after == before


def test_file_names_are_checked_before_the_program_is_called(
    folder: Path, capsys: Capture
) -> None:
    (folder / "slow.py").write_text("raise SystemExit('called')")
    words = ["plan", "slow:tiny", *PLAN[2:], "--plot", "a.pdf"]
    assert "a.pdf must end with" in refused(capsys, *words)


@pytest.mark.parametrize("option", ["--html", "--save", "--plot"])
def test_a_folder_in_place_of_a_file_is_bad_input(
    folder: Path, capsys: Capture, option: str
) -> None:
    name = "taken.png" if option == "--plot" else "taken"
    (folder / name).mkdir()
    assert name in refused(capsys, *PLAN, option, name)


def test_a_target_that_is_no_file_is_bad_input(folder: Path, capsys: Capture) -> None:
    words = ["plan", "programs:tiny", "--no-compile", "--quiet"]
    (folder / "junk.json").write_text("junk")
    assert "junk.json" in refused(capsys, *words, "--target", "junk.json")
    assert "gone.json" in refused(capsys, *words, "--target", "gone.json")


def test_without_a_target_the_gpus_are_listed(capsys: Capture) -> None:
    line = refused(capsys, "plan", "programs:tiny", "--no-compile", "--quiet")
    assert "`target` is None and there is no GPU here" in line
    assert "h100" in line


@pytest.mark.parametrize("words", [["plan"], [*PLAN, "--colour"], [*PLAN, "more"]])
def test_misspelt_words_show_the_usage(capsys: Capture, words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    assert stopped.value.code == 2
    assert "usage: jaxswap" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["20", "0", "-8"])
def test_sizes_that_the_unet_cannot_have_are_refused(
    capsys: Capture, size: str
) -> None:
    words = ["plan", "unet3d", *PLAN[2:], "--size", size]
    assert f"{size} voxels" in refused(capsys, *words)


def test_a_defect_is_not_reported_as_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise AssertionError("a defect")

    monkeypatch.setattr(jaxswap, "plan", fail)
    with pytest.raises(AssertionError, match="a defect"):
        run(*PLAN)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), OSError("disk full")])
def test_a_run_that_stops_has_its_own_code(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    def stop(*args: Any, **options: Any) -> None:
        raise raised

    monkeypatch.setattr(jaxswap.Plan, "save", stop)
    code = run(*PLAN, "--save", "a.json")
    assert code == (130 if isinstance(raised, KeyboardInterrupt) else 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxswap: ")


def test_targets_are_listed(capsys: Capture) -> None:
    assert run("targets") == 0
    head, *lines, machines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["name", "memory", "bandwidth"]
    assert [line.split()[0] for line in lines] == list(target_names())
    assert all(line.endswith("published") for line in lines)
    assert machines.startswith("machines, ")
    assert "dgx-h100 (8 x h100)" in machines


def test_targets_are_written_as_json(capsys: Capture) -> None:
    assert run("targets", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(target_names())
    for row in rows:
        assert row["memory_bytes"] > 0
        assert row["rates"]["bf16_matmul_flops_per_second"] > 0


def save_mine(**changes: Any) -> Path:
    """Save a GPU named `mine`; return its file."""
    return save_target(dataclasses.replace(find_target("h100"), name="mine", **changes))


def test_saved_targets_are_listed_too(capsys: Capture) -> None:
    path = save_mine(rates=published_rates(find_target("h100")))
    assert run("targets") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split()[0] == "mine"
    assert len(lines) == len(target_names()) + 3
    for target in ("mine", str(path)):
        assert run("plan", "programs:tiny", "--target", target, *PLAN[4:]) == 0
        assert capsys.readouterr().out.startswith("plan for mine")
    path.write_text("junk")
    assert "mine.json" in refused(capsys, "targets")


@pytest.mark.parametrize("options", [[], ["--quick"], ["--like", "h100"], ["--json"]])
def test_calibrate_needs_a_gpu(
    tmp_path: Path, capsys: Capture, options: list[str]
) -> None:
    line = refused(capsys, "calibrate", *options)
    assert "calibrate needs a GPU, and the device is" in line
    assert "(cpu)" in line
    assert not (tmp_path / "home").exists()


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


def test_arrays_of_a_factory_are_arguments_like_their_types(
    folder: Path, capsys: Capture
) -> None:
    (folder / "arrays.py").write_text(
        "from programs import tiny, loss\n"
        "import jax, jax.numpy as jnp\n"
        "def arrays():\n"
        "    types = tiny()[1]\n"
        "    return loss, jax.tree.map(lambda t: jnp.ones(t.shape, t.dtype), types)\n"
    )
    importlib.invalidate_caches()
    found = []
    for program in ("arrays:arrays", "programs:tiny"):
        assert run("plan", program, *PLAN[2:], "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["program"])
    assert found[0] == found[1]
    assert jax.default_backend() == "cpu"


def test_what_libraries_print_does_not_reach_stdout(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with commands._own_stdout():
        os.write(1, b"a stray line of C++\n")
    os.write(1, b"{}\n")
    found = capfd.readouterr()
    assert found.out == "{}\n"
    assert "a stray line" in found.err
