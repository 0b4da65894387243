"""The notebooks are lessons: short, with small outputs, and they run."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MAX_CELLS = 25
MAX_CELL_LINES = 20
MAX_BYTES = 100_000


def read(path: pathlib.Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_short(path: pathlib.Path) -> None:
    cells = read(path).cells
    assert len(cells) <= MAX_CELLS
    assert max(cell.source.count("\n") + 1 for cell in cells) <= MAX_CELL_LINES
    assert path.stat().st_size <= MAX_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_shows_what_it_printed_and_no_noise(path: pathlib.Path) -> None:
    outputs = [o for cell in read(path).cells for o in cell.get("outputs", [])]
    assert outputs
    assert all(output.get("name") != "stderr" for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_ends_in_assertions(path: pathlib.Path) -> None:
    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    assert code[-1].startswith("assert ")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: pathlib.Path) -> None:
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(read(path), timeout=300, resources=resources).execute()
