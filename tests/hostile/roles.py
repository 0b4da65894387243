"""Where hostile files may lie, and the commands that then meet them."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import tiny_datasets


class Given(NamedTuple):
    """What the commands of a test have around them.

    Attributes:
        folder: An empty folder. `home` in it is the folder of the user's files.
        run: A trained run, which is not changed.
        data: The data set that it was trained on, which is not changed.
    """

    folder: Path
    run: Path
    data: Path

    @property
    def out(self) -> str:
        """Where commands write to."""
        return str(self.folder / "out")

    def file(self, name: str, content: bytes) -> Path:
        """Write a file, its folder included."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


Words = list[str]
Role = Callable[[Given, bytes], list[Words]]
"""Puts the content of a file somewhere; returns the commands that meet it."""

_ALL = ["--network", "tiny_networks:OneConvolution", "--set", "fold=all"]
PLAN = ["plan", "programs:tiny", "--no-compile", "--quiet", "--target"]


def saved_target(given: Given, content: bytes) -> list[Words]:
    """Put it among the saved targets."""
    path = given.file("home/targets/mine.json", content)
    return [["targets"], ["targets", "--json"], [*PLAN, "mine"], [*PLAN, str(path)]]


def target_file(given: Given, content: bytes) -> list[Words]:
    """Put it into a file that is named as a target."""
    path = given.file("mine.json", content)
    train = ["train", str(given.data), "--out", given.out, *_ALL, "--target", str(path)]
    return [
        [*PLAN, str(path)],
        ["inspect", "programs:tiny", "--target", str(path)],
        [*train, "--device-memory", "1GiB"],
    ]


def plan_file(given: Given, content: bytes) -> list[Words]:
    """Put it into a file that is named as a plan."""
    path = str(given.file("plan.json", content))
    target = ["--target", "h100"]
    return [["inspect", "programs:tiny", *target, "--plan", path]]


def description(given: Given, content: bytes) -> list[Words]:
    """Put it beside images, as nnU-Net and the decathlon describe a data set."""
    root = tiny_datasets.nnunet(given.folder / "raw", ("a",))
    given.file("raw/dataset.json", content)
    return _of_data(given, root)


def datalist(given: Given, content: bytes) -> list[Words]:
    """Put it into a list of cases."""
    return _of_data(given, given.file("list.json", content))


def folds(given: Given, content: bytes) -> list[Words]:
    """Put it into the folds of nnU-Net."""
    root = tiny_datasets.nnunet(given.folder / "raw", ("a", "b"))
    given.file("raw/splits_final.json", content)
    return [["check", str(root)], ["train", str(root), "--out", given.out, *_ALL]]


def meaning(given: Given, content: bytes) -> list[Words]:
    """Put it into a file that says what labels mean."""
    path = str(given.file("labels.json", content))
    data = str(given.data)
    evaluate = ["evaluate", data, data, "--out", given.out, "--workers", "1"]
    return [["check", data, "--labels", path], [*evaluate, "--labels", path]]


def settings_file(given: Given, content: bytes) -> list[Words]:
    """Put it into a file of settings."""
    path = str(given.file("config.yaml", content))
    return [
        ["train", str(given.data), "--out", given.out, "--config", path],
        ["train", "--print-config", "--config", path],
    ]


def run_settings(given: Given, content: bytes) -> list[Words]:
    """Put it into the settings of a run."""
    return _of_run(given, "config.yaml", content)


def run_data(given: Given, content: bytes) -> list[Words]:
    """Put it into what a run says of its data."""
    return _of_run(given, "data.json", content)


def run_split(given: Given, content: bytes) -> list[Words]:
    """Put it into what a run says of its cases."""
    return _of_run(given, "split.json", content)[1:]


def run_table(given: Given, content: bytes) -> list[Words]:
    """Put it into the table of a run."""
    return _of_run(given, "metrics.csv", content)[1:]


def run_rules(given: Given, content: bytes) -> list[Words]:
    """Put it into what a run removes from labels."""
    return _of_run(given, "postprocessing.json", content)[:1]


def run_checkpoint(given: Given, content: bytes) -> list[Words]:
    """Put it into the descriptions of all checkpoints of a run."""
    words = _of_run(given, "config.yaml", None)
    for path in (given.folder / "run").rglob("record.json"):
        path.write_bytes(content)
    return words


def _of_run(given: Given, name: str, content: bytes | None) -> list[Words]:
    run = shutil.copytree(given.run, given.folder / "run")
    if content is not None:
        (run / name).write_bytes(content)
    return [
        ["predict", str(run), str(given.data), "--out", given.out],
        ["train", "--resume", "--out", str(run)],
    ]


def summary(given: Given, content: bytes) -> list[Words]:
    """Put it into the description of synthetic cases."""
    given.file("out/synthesis.json", content)
    return [["synth", given.out, "--cases", "1", "--workers", "1"]]


def registration(given: Given, content: bytes) -> list[Words]:
    """Put it into what an experiment registered."""
    given.file("out/registration.json", content)
    return [["compare", given.out, "--report"], ["compare", given.out, "--steps", "1"]]


def image(given: Given, content: bytes) -> list[Words]:
    """Put it into an image of a case, uncompressed."""
    return _of_volume(given, content, ".nii")


def stream(given: Given, content: bytes) -> list[Words]:
    """Put it into an image of a case, compressed."""
    return _of_volume(given, content, ".nii.gz")


def _of_volume(given: Given, content: bytes, ending: str) -> list[Words]:
    root = tiny_datasets.brats(given.folder / "raw", ["BraTS2021_00007"])
    case = root / "BraTS2021_00007"
    for path in case.iterdir():
        if ending == ".nii":
            whole = gzip.decompress(path.read_bytes())
            path.with_name(path.name.removesuffix(".gz")).write_bytes(whole)
            path.unlink()
    hostile = [case / f"BraTS2021_00007_{kind}{ending}" for kind in ("t1", "seg")]
    for path in hostile:
        path.write_bytes(content)
    labels = str(given.file(f"predictions/BraTS2021_00007{ending}", content).parent)
    return [
        *_of_data(given, root),
        ["evaluate", labels, str(root), "--out", given.out, "--workers", "1"],
        ["demo", "--out", given.out, "--skip-table", *_both(hostile)],
    ]


def _both(files: list[Path]) -> Words:
    image, labels = map(str, files)
    return ["--image", image, "--labels", labels]


def _of_data(given: Given, data: Path) -> list[Words]:
    return [
        ["check", str(data), "--workers", "1"],
        ["train", str(data), "--out", given.out, *_ALL],
        ["predict", str(given.run), str(data), "--out", given.out],
        ["plan", str(data), "--target", "h100", "--set", "fold=all"],
    ]
