"""Each hostile file, in each place where a command meets it: one line, exit code 2."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostile import roles
from hostile.corpus import HEADERS, PLACES, SETTINGS, STREAMS, TEXTS
from hostile.roles import Given, Role, Words

from jaxswap._cli.main import main

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("lenient_promotion"),
]
Capture = pytest.CaptureFixture[str]

ROLES: dict[Role, str] = {
    roles.saved_target: "mine.json",
    roles.target_file: "mine.json",
    roles.plan_file: "plan.json",
    roles.description: "dataset.json",
    roles.datalist: "list.json",
    roles.folds: "splits_final.json",
    roles.meaning: "labels.json",
    roles.settings_file: "config.yaml",
    roles.run_settings: "config.yaml",
    roles.run_data: "data.json",
    roles.run_split: "split.json",
    roles.run_table: "metrics.csv",
    roles.run_rules: "postprocessing.json",
    roles.run_checkpoint: "record.json",
    roles.summary: "synthesis.json",
    roles.registration: "registration.json",
}
"""Places of JSON, YAML and tables, and the name that each answer has to have."""

FINE = {(roles.folds, "a list")}
"""What can be used: here, no folds."""

BY_SETTING = "is no setting"
"""Settings may be of a file or of the command line: their own name is enough."""

VOLUMES: dict[str, int] = {"check": 1, "predict": 1}
"""Exit codes of commands that go on after a bad volume. That of others is 2."""

USABLE = {"an endless slope", "voxels without size", "another size of header"}
USABLE |= {"an endless extension"}
"""Headers that nibabel mends, or that the data set can do without."""


@pytest.fixture
def given(folder: Path, trained: Path, data: Path, tmp_path: Path) -> Given:
    """An empty folder for each hostile file, and what is shared by all."""
    del folder
    return Given(tmp_path / "hostile", trained, data)


def answers(
    given: Given, put: Callable[[Given], list[Words]], capsys: Capture
) -> Iterator[tuple[Words, int, str]]:
    """Yield the commands that meet a file, their exit codes and their last lines."""
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSWAP_HOME", str(given.folder / "home"))
        for words in put(given):
            before = files(Path(given.out))
            code = main(words)
            written = capsys.readouterr()
            assert "Traceback" not in written.err
            assert code != 2 or files(Path(given.out)) == before, words
            yield words, code, written.err.splitlines()[-1] if written.err else ""


def files(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.__name__)
def test_text_that_is_of_no_use_is_refused_by_name(
    given: Given, role: Role, capsys: Capture
) -> None:
    for name, content in TEXTS.items():
        if (role, name) in FINE:
            continue
        found = answers(given, lambda g, text=content: role(g, text), capsys)
        for words, code, line in found:
            assert code == 2, (name, words, line)
            assert ROLES[role] in line or BY_SETTING in line, (name, words, line)
            assert len(line) < 1000, (name, words)


@pytest.mark.parametrize(
    ("role", "contents"),
    [
        (roles.image, HEADERS),
        (roles.stream, {name: make() for name, make in STREAMS.items()}),
    ],
    ids=["headers", "streams"],
)
def test_volumes_that_are_of_no_use_are_refused_by_name(
    given: Given, role: Role, contents: dict[str, bytes], capsys: Capture
) -> None:
    for name, content in contents.items():
        found = answers(given, lambda g, bytes=content: role(g, bytes), capsys)
        for words, code, line in found:
            if name in USABLE:
                assert code in (0, 1, 2)
                continue
            assert code == VOLUMES.get(words[0], 2), (name, words, line)
            if words[0] != "check":  # Its table is on stdout.
                assert "BraTS2021_00007" in line, (name, words, line)


ALWAYS_READ = [
    roles.saved_target,
    roles.target_file,
    roles.plan_file,
    roles.datalist,
    roles.meaning,
    roles.settings_file,
    roles.run_settings,
    roles.run_data,
]
"""Places where there has to be a file: where a command names it, and in runs."""


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
def test_what_is_no_file_is_refused(
    given: Given, make: Callable[[Path], None], capsys: Capture
) -> None:
    for role in ALWAYS_READ:
        name = ROLES[role]

        def put(given: Given, role: Role = role, name: str = name) -> list[Words]:
            words = role(given, b"")
            for path in given.folder.rglob(name):
                path.unlink()
                make(path)
            return words

        for words, code, line in answers(given, put, capsys):
            assert code == 2, (words, line)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_be_used_are_refused(
    given: Given, name: str, capsys: Capture
) -> None:
    words = ["train", str(given.data), "--out", given.out, "--set", "fold=all"]
    if not SETTINGS[name].startswith("network"):
        words += ["--network", "tiny_networks:OneConvolution"]
    put = [[*words, "--set", SETTINGS[name]]]
    for _, code, line in answers(given, lambda _: put, capsys):
        assert code == 2, line
        setting = SETTINGS[name].partition("=")[0]
        assert setting in line, line
        assert not Path(given.out).exists()
