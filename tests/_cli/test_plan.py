"""`jaxswap plan`: output, files, exit codes.

Programs are factories in modules that each test finds in its own current folder.
"""

import importlib
import json
from pathlib import Path
from typing import Any

import jax
import pytest
from command_line import PLAN, Capture, refused, run

import jaxswap
from jaxswap import policies

pytestmark = pytest.mark.usefixtures("folder")


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


def test_values_that_leave_are_rounded_if_asked_for(capsys: Capture) -> None:
    words = [*PLAN, "--json", "--policy", "SaveOnCpu"]
    found = []
    for more in ([], ["--compress", "int8"]):
        assert run(*words, *more) == 0
        found.append(json.loads(capsys.readouterr().out))
    wide, narrow = found
    assert (wide["compress"], narrow["compress"]) == ("", "int8")
    assert narrow["lossy"]
    leaves = [each["simulated"]["out"]["bytes"] for each in found]
    assert leaves[0] == 4 * leaves[1] > 0


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
    (["--compress", "int4"], "`compress` is 'int4'; it must be one of"),
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


def test_a_missing_word_shows_the_usage(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("plan")
    assert stopped.value.code == 2
    assert "usage: jaxswap" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--colour", "more"])
def test_words_that_are_not_known_are_named(capsys: Capture, word: str) -> None:
    line = refused(capsys, *PLAN, word)
    assert f"plan does not know {word}. See jaxswap plan -h." in line


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


def test_slabs_are_asked_for(capsys: Capture) -> None:
    words = ["plan", "unet3d", "--size", "32", *PLAN[2:], "--json"]
    assert run(*words, "--slabs", "1x4") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["slabs"]["count"] == 4
    assert found["slabs"]["sweeps"]
    for kind in ("none", "auto"):
        assert run(*words, "--slabs", kind) == 0
        assert json.loads(capsys.readouterr().out)["slabs"] is None
    told = refused(capsys, *words, "--slabs", "16")
    assert '`slabs` is "16"; it needs "auto", "none", or levels and slabs' in told
