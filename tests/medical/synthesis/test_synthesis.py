import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxswap.medical.data.datasets import find_dataset
from jaxswap.medical.data.label_maps import make_label_map
from jaxswap.medical.data.volumes import Volume
from jaxswap.medical.synthesis import synthesis as module
from jaxswap.medical.synthesis.half_millimetre import Atlas
from jaxswap.medical.synthesis.synthesis import (
    Synthesis,
    default_templates,
    prepare_synthesis,
    run_synthesis,
)
from jaxswap.medical.synthesis.synthetic_case import SyntheticCase
from jaxswap.medical.synthesis.synthetic_recipe import Recipe, make_recipe

RECIPE = make_recipe("glioma", (48, 48, 48), 4.0)
SHAPE = (4, 4, 4)


def fake_case(recipe: Recipe, seed: int, index: int) -> SyntheticCase:
    random = np.random.default_rng((seed, index))
    names = ("t1n",) if recipe.arm == "parcellation" else ("t1n", "t1c", "t2w", "t2f")
    record = {
        "index": index,
        "arm": recipe.arm,
        "head": {"is_mirrored": False, "size": 1.0},
        "volume_ml": {},
    }
    return SyntheticCase(
        {name: random.integers(1, 9, SHAPE).astype(np.int16) for name in names},
        random.integers(0, 2, SHAPE).astype(np.uint8),
        np.zeros(SHAPE, np.uint8),
        np.eye(4),
        "RAS",
        record,
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces drawing, which takes a second; lists what is drawn."""
    indices: list[int] = []

    def draw(recipe: Recipe, seed: int, index: int) -> SyntheticCase:
        indices.append(index)
        return fake_case(recipe, seed, index)

    monkeypatch.setattr(module, "draw_case", draw)
    monkeypatch.setattr(module, "load_tissue_maps", lambda: None)
    return indices


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_cases_are_made_with_their_summary_and_table(
    tmp_path: Path, drawn: list[int]
) -> None:
    made = list(run_synthesis(Synthesis(tmp_path / "out", RECIPE, 3, seed=5)))
    assert made == [f"BraTS-GLI-0000{i}-000" for i in range(3)]
    assert drawn == [0, 1, 2]
    summary = json.loads((tmp_path / "out" / "synthesis.json").read_text())
    assert summary["seed"] == 5
    assert summary["cases"] == 3
    assert summary["recipe"]["tumour"]["extent_mm"] == [45.0, 100.0]
    assert "not clinical evidence" in summary["statement"]
    assert len((tmp_path / "out" / "cases.csv").read_text().splitlines()) == 4


def test_the_folder_is_read_as_brats_2023(tmp_path: Path, drawn: list[int]) -> None:
    list(run_synthesis(Synthesis(tmp_path, RECIPE, 2)))
    dataset = find_dataset(tmp_path)
    assert dataset.layout == "brats"
    assert dataset.label_map is not None
    assert dataset.label_map.name == "brats2023"
    assert dataset.channels == ("t1n", "t1c", "t2w", "t2f")
    assert len(dataset.labeled) == 2
    assert drawn


def test_stopped_run_is_continued_to_the_same_files(
    tmp_path: Path, drawn: list[int]
) -> None:
    list(run_synthesis(Synthesis(tmp_path / "whole", RECIPE, 4)))
    drawn.clear()
    run = run_synthesis(Synthesis(tmp_path / "stopped", RECIPE, 4))
    next(run)
    next(run)
    run.close()
    stopped = Synthesis(tmp_path / "stopped", RECIPE, 4)
    assert prepare_synthesis(stopped) == [2, 3]
    assert list(run_synthesis(stopped)) == [f"BraTS-GLI-0000{i}-000" for i in (2, 3)]
    assert drawn == [0, 1, 2, 3]
    assert tree(tmp_path / "stopped") == tree(tmp_path / "whole")


def test_more_cases_are_added_and_fewer_take_none_away(
    tmp_path: Path, drawn: list[int]
) -> None:
    list(run_synthesis(Synthesis(tmp_path, RECIPE, 1)))
    list(run_synthesis(Synthesis(tmp_path, RECIPE, 3)))
    after = tree(tmp_path)
    list(run_synthesis(Synthesis(tmp_path, RECIPE, 2)))
    assert drawn == [0, 1, 2]
    assert tree(tmp_path) == after
    assert len((tmp_path / "cases.csv").read_text().splitlines()) == 4


def test_parcellations_get_their_dataset_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_map = make_label_map("sides", {"Left A": 1, "Right A": 2})
    atlas = Atlas(
        Volume.from_array(np.zeros(SHAPE), np.eye(4)), np.zeros(SHAPE), label_map
    )
    monkeypatch.setattr(module, "fetch_templates", lambda folder: atlas)
    monkeypatch.setattr(module, "load_atlas", lambda folder, spacing_mm: atlas)
    monkeypatch.setattr(
        module,
        "draw_parcellation",
        lambda recipe, atlas, seed, index: fake_case(recipe, seed, index),
    )
    recipe = make_recipe("parcellation", (48, 48, 48), 4.0)
    wanted = Synthesis(tmp_path / "out", recipe, 2, templates=tmp_path)
    assert list(run_synthesis(wanted)) == ["MNI152_00000", "MNI152_00001"]
    dataset = find_dataset(tmp_path / "out")
    assert dataset.layout == "nnunet"
    assert len(dataset.labeled) == 2
    assert dataset.notes == ()
    assert dataset.label_map is not None
    assert dataset.label_map.labels == {"Left A": 1, "Right A": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": 0}, "`cases` is 0; it needs to be 1 to 100000"),
        ({"cases": 100_001}, "`cases` is 100001"),
        ({"seed": -1}, "`seed` is -1; it needs to be 0 or more"),
        ({"workers": 0}, "`workers` is 0; it needs to be 1 or more"),
        (
            {"recipe": make_recipe("parcellation", (48, 48, 48), 4.0)},
            "`templates` is needed",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Synthesis(tmp_path, RECIPE, 1), **changes)


def test_other_recipes_and_seeds_do_not_mix(tmp_path: Path, drawn: list[int]) -> None:
    list(run_synthesis(Synthesis(tmp_path, RECIPE, 1)))
    before = tree(tmp_path)
    finer = make_recipe("glioma", (64, 64, 64), 3.0)
    with pytest.raises(ValueError, match="holds cases of seed 0, but `seed` is 1"):
        prepare_synthesis(Synthesis(tmp_path, RECIPE, 1, seed=1))
    with pytest.raises(
        ValueError, match=r"another recipe \(`shape` was \[48, 48, 48\]"
    ):
        list(run_synthesis(Synthesis(tmp_path, finer, 2)))
    assert tree(tmp_path) == before
    assert drawn == [0]


def test_folder_with_other_things_is_refused(tmp_path: Path, drawn: list[int]) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"holds files but no synthesis\.json"):
        list(run_synthesis(Synthesis(tmp_path, RECIPE, 1)))
    with pytest.raises(ValueError, match=r"thesis\.tex is a file"):
        prepare_synthesis(Synthesis(tmp_path / "thesis.tex", RECIPE, 1))
    assert drawn == []


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_damaged_summary_is_named(tmp_path: Path, drawn: list[int], text: str) -> None:
    (tmp_path / "synthesis.json").write_text(text)
    with pytest.raises(ValueError, match=r"synthesis\.json: is damaged"):
        prepare_synthesis(Synthesis(tmp_path, RECIPE, 1))
    assert drawn == []


def test_failure_while_drawing_leaves_whole_cases_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[int]
) -> None:
    good = module.draw_case

    def draw(recipe: Recipe, seed: int, index: int) -> SyntheticCase:
        if index == 1:
            raise MemoryError("too large")
        return good(recipe, seed, index)

    monkeypatch.setattr(module, "draw_case", draw)
    with pytest.raises(MemoryError):
        list(run_synthesis(Synthesis(tmp_path, RECIPE, 3)))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["BraTS-GLI-00000-000", "synthesis.json"]
    assert drawn == [0]


def test_templates_are_kept_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))
    assert default_templates() == tmp_path / "home" / "templates"
    monkeypatch.delenv("JAXSWAP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_templates() == tmp_path / "jaxswap" / "templates"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_templates() == Path.home() / ".cache" / "jaxswap" / "templates"


@pytest.mark.slow
def test_processes_side_by_side_make_the_same_files(tmp_path: Path) -> None:
    for workers in (1, 2):
        out = tmp_path / str(workers)
        made = run_synthesis(Synthesis(out, RECIPE, 2, workers=workers))
        assert sorted(made) == ["BraTS-GLI-00000-000", "BraTS-GLI-00001-000"]
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


def test_workers_end_with_a_parent_that_was_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[object] = []

    class Parent:
        def join(self) -> None:
            said.append("joined")

    monkeypatch.setattr(module.os, "_exit", said.append)
    module._end_with(Parent())
    assert said == ["joined", 1]
