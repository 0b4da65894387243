"""The notebooks are lessons: short, with pictures and small outputs, and they run."""

import pathlib
import re

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LESSONS = (
    "1-first-plan",
    "2-unet-under-a-budget",
    "3-reading-a-plan",
    "4-lms-and-the-planner",
    "5-a-volume-by-slabs",
)
MAX_CELLS = 25
MAX_CELL_LINES = 20
MAX_BYTES = 400_000
# What one machine or one moment leaves in an output and nobody else wants to read.
NOISE = re.compile(r"/work|/root|/home|/tmp|Users|cudart|absl|Highs|Warning|Traceback")


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook: nbformat.NotebookNode) -> str:
    """All text among the outputs."""
    found = []
    for output in outputs(notebook):
        texts = {
            kind: text
            for kind, text in output.get("data", {}).items()
            if kind.startswith("text/")
        }
        found += [output.get("text", ""), *texts.values()]
    return "\n".join(found)


def pictures(notebook: nbformat.NotebookNode) -> list[str]:
    data = [output.get("data", {}) for output in outputs(notebook)]
    return [one["image/png"] for one in data if "image/png" in one]


def test_there_is_a_notebook_for_each_lesson() -> None:
    assert tuple(path.stem for path in NOTEBOOKS) == LESSONS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_short(path: pathlib.Path) -> None:
    cells = read(path).cells
    assert len(cells) <= MAX_CELLS
    assert max(cell.source.count("\n") + 1 for cell in cells) <= MAX_CELL_LINES
    assert path.stat().st_size <= MAX_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_shows_what_it_printed_and_no_noise(path: pathlib.Path) -> None:
    notebook = read(path)
    assert printed(notebook)
    assert not NOISE.findall(printed(notebook))
    assert all(output.get("name") != "stderr" for output in outputs(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_shows_a_picture(path: pathlib.Path) -> None:
    assert pictures(read(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_was_executed_from_top_to_bottom(path: pathlib.Path) -> None:
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_says_what_each_code_is_for(path: pathlib.Path) -> None:
    kinds = [cell.cell_type for cell in read(path).cells]
    assert kinds[0] == "markdown"
    assert kinds.count("markdown") >= kinds.count("code") / 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_ends_in_assertions(path: pathlib.Path) -> None:
    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    assert code[-1].startswith("assert ")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(
    path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Plans are made, not found on this machine's disk.
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(tmp_path))
    notebook = read(path)
    shown = len(pictures(notebook))
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()
    assert len(pictures(notebook)) == shown
