"""The tutorial on layouts: its commands run on small data, in every layout."""

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
import tiny_datasets as tiny
import yaml

from jaxswap._cli.main import main

DOCS = Path(__file__).parent.parent / "docs"
SETTINGS = {
    "folds": 2,
    "network": "tiny_networks:OneConvolution",
    "precision": "float32",
    "steps": 1,
    "offload": False,
    "augment": False,
}
NAMES = ("anna", "bela", "cora")


def _nnunet(data: Path) -> None:
    labels = {"background": 0, "grey": 1, "white": 2, "rim": 3}
    tiny.nnunet(data, NAMES, ("T1", "FLAIR"), labels=labels)


def _decathlon(data: Path) -> None:
    tiny.decathlon(data, cases=3)


def _brats(data: Path) -> None:
    tiny.brats(data, [f"BraTS2021_{number:05d}" for number in range(3)])


def _datalist(data: Path) -> None:
    """Write the list that the page shows, and its files."""
    (shown,) = _blocks(_section("A datalist of MONAI"), "json")
    content = json.loads(shown)
    for entry in content["training"]:
        for seed, image in enumerate(entry["image"]):
            tiny.write(data / image, tiny.head(seed))
        tiny.write(data / entry["label"], tiny.tumour((1, 2)))
    tiny.write_json(data / "datalist.json", content)


def _files(data: Path) -> None:
    for seed, name in enumerate(NAMES):
        tiny.write(data / "images" / f"{name}.nii.gz", tiny.head(seed))
        tiny.write(data / "labels" / f"{name}.nii.gz", tiny.tumour((1, 2)))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "nnU-Net": _nnunet,
    "Medical Segmentation Decathlon": _decathlon,
    "BraTS": _brats,
    "A datalist of MONAI": _datalist,
    "A folder of files": _files,
}


def _section(title: str) -> str:
    text = (DOCS / "medical-layouts.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    (found,) = [s for s in sections if s.startswith(f"{title}\n")]
    return found


def _blocks(section: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def _commands(section: str) -> Iterator[list[str]]:
    for block in _blocks(section, ""):
        for line in block.splitlines():
            yield shlex.split(line)[1:]


def test_every_layout_is_tried() -> None:
    text = (DOCS / "medical-layouts.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(LAYOUTS)


@pytest.mark.parametrize("title", LAYOUTS)
def test_a_folder_of_files_becomes_an_evaluated_model(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXSWAP_HOME", str(tmp_path / "home"))
    LAYOUTS[title](tmp_path / "DATA")
    section = _section(title)
    for code in _blocks(section, "py"):
        exec(compile(code, title, "exec"), {})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
    ran = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        for words in _commands(section):
            if words[0] == "train":  # No GPU is here, and a network takes long.
                at = words.index("--device-memory")
                words[at : at + 2] = ["--config", "tiny.yaml"]
            if words[0] == "evaluate":
                words += ["--workers", "1"]
            assert main(words) == 0, words
            ran.append(words[0])
    assert ran[:4] == ["check", "train", "predict", "evaluate"]
    labeled = list((tmp_path / "LABELS").glob("*.nii.gz"))
    summary = (tmp_path / "LABELS" / "evaluation" / "summary.json").read_text()
    cases = json.loads(summary)["cases"]
    assert cases["scored"] == len(labeled) >= 1
    assert cases["scored"] + cases["left_out"] == (2 if title.endswith("MONAI") else 3)
    page = (DOCS / "run-folder.md").read_text()
    files = [path.name for path in (tmp_path / "RUN").iterdir()]
    assert [name for name in files if f"`{name}" not in page] == []


def test_the_page_of_metrics_shows_what_was_measured() -> None:
    from benchmarks import scores

    page = (DOCS / "metrics.md").read_text()
    table = scores.table()
    for label, metric, digits in (
        ("jaxswap", "HD95 jaxswap", 2),
        ("MONAI", "HD95 MONAI", 2),
        ("MedPy", "HD95 MedPy", 2),
        ("BraTS 2023, surface-distance", "HD95 BraTS 2023", 2),
        ("jaxswap", "surface Dice jaxswap", 3),
        ("MONAI", "surface Dice MONAI", 3),
    ):
        (line,) = [row for row in table.splitlines() if row.startswith(f"| {metric} |")]
        values = [float(cell) for cell in line.split("|")[2:-1]]
        shown = re.findall(rf"^\| {re.escape(label)} \|(.*)\|$", page, re.MULTILINE)
        tables = [[float(cell) for cell in row.split("|")] for row in shown]
        assert any(
            row == pytest.approx(values, abs=0.6 * 10**-digits) for row in tables
        ), metric
