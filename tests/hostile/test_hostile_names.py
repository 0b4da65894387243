"""Names that files give are text, in whatever they are written to: never markup."""

import csv
import html
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import jax
import pytest
import tensorboard_records
import tiny_datasets

from jaxswap._cli.main import main

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("lenient_promotion"),
]
Capture = pytest.CaptureFixture[str]

CASES = [
    "[red] [bold]brackets[bold]",
    "<script>alert(1)<script>",
    "a & \"b\" 'c'",
    "a\nline\r\nend",
    "%d %s %(a)s {0} {a} $x$ \\n",
    "--out -x",
    "=1+1",
    "l" * 200,
    os.fsdecode(b"no \xff\xfe UTF-8"),
    "\x1b[2J\x07 control \x9b",
    "\u202eother way",
    "頭 \N{SMILING FACE WITH OPEN MOUTH}",
]
"""Names of cases. They may hold what names of files may hold."""

LABELS = ["[/red] [v2]", "<b>&amp;</b>\"'", "%s {0} $x$", "--x", "=2+2", "l" * 300]
"""Names of labels."""


class Scripts(HTMLParser):
    """Counts what would run. The page has one script of its own, to sort its tables."""

    found = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count scripts, and attributes that run some."""
        self.found += tag == "script" or any(n.startswith("on") for n, _ in attrs)


def assert_runs_nothing(page: str) -> None:
    """No name on a page became a script."""
    scripts = Scripts()
    scripts.feed(page)
    assert scripts.found == 1


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases and labels of such names, in a folder of such a name."""
    root = tmp_path_factory.mktemp("hostile") / "[/red] <b> %s"
    tiny_datasets.nnunet(root, CASES, ("T1",))
    described = json.loads((root / "dataset.json").read_text())
    described["labels"] = {"background": 0} | {
        name: value for value, name in enumerate(LABELS, 1)
    }
    (root / "dataset.json").write_text(json.dumps(described))
    return root


@pytest.fixture(scope="module")
def run(raw: Path) -> Path:
    """A run on them, validated at its end."""
    out = raw / "run [/b]"
    tiny = ["--network", "tiny_networks:OneConvolution", "--steps", "1"]
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("JAXSWAP_HOME", str(raw / "home"))
        assert main(["train", str(raw), "--out", str(out), *tiny]) == 0
    return out


def assert_plain(written: str) -> None:
    """No control character of a name came through."""
    assert not {"\x1b", "\x07", "\x9b"} & set(written)


def assert_table(path: Path, columns: set[str]) -> list[dict[str, str]]:
    """The table has as many cells in each row, and these columns."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert columns <= set(rows[0])
    assert all(None not in row and None not in row.values() for row in rows)
    return rows


def test_a_survey_shows_them(raw: Path, capsys: Capture) -> None:
    for words in ([], ["--all"], ["--csv"], ["--json"]):
        assert main(["check", str(raw), *words]) in (0, 1)
        out, err = capsys.readouterr()
        assert_plain(out + err)
        if words == ["--json"]:
            assert json.loads(out)["cases"] == len(CASES)


def test_scores_show_them(raw: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "[/i] out"
    labels = str(raw / "labelsTr")
    words = ["evaluate", labels, str(raw), "--out", str(out), "--workers", "1"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert_plain(shown.out + shown.err)
    assert str(out) in shown.out
    rows = assert_table(out / "metrics.csv", {"case", "region"})
    assert {row["region"] for row in rows} == set(LABELS)
    assert len({row["case"] for row in rows}) == len(CASES)
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["regions"]) == set(LABELS)
    page = (out / "report.html").read_text()
    assert_runs_nothing(page)
    for name in (*CASES[:3], *LABELS[:3]):
        assert html.escape(name) in page or html.escape(name, quote=False) in page


def test_a_run_shows_them(run: Path, capsys: Capture) -> None:
    shown = capsys.readouterr()
    assert_plain(shown.out + shown.err)
    assert_table(run / "validation.csv", {"step", *LABELS})
    (events,) = tensorboard_records.event_files(run / "tensorboard")
    tags = {value.tag for event in events for value in event.summary.value}
    assert {f"dice/{name}" for name in LABELS} <= tags
    (page,) = run.rglob("report.html")
    assert_runs_nothing(page.read_text())


def test_predictions_have_their_names(
    raw: Path, run: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["predict", str(run), str(raw), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert_plain(shown.out + shown.err)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"{name}.nii.gz" for name in CASES}
