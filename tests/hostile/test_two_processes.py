"""Two processes that write into one folder: what lies there is whole at the end."""

import json
from multiprocessing import get_context
from pathlib import Path

import pytest
from hostile.writers import WRITERS, checkpoint, run_table

ROUNDS = 5
ALONE = {checkpoint, run_table}
"""A run belongs to one process: another one is refused its folder."""
SHARED = [write for write in WRITERS if write not in ALONE]


def write_all(folder: Path, version: int) -> None:
    """Write a version of everything, again and again; say what went wrong."""
    errors = []
    for _ in range(ROUNDS):
        for write in SHARED:
            place = folder / write.__name__
            place.mkdir(parents=True, exist_ok=True)
            try:
                write(place, version)
            except OSError as error:
                errors.append(f"{write.__name__}: {error!r}")
    (folder / f"errors{version}.json").write_text(json.dumps(errors))


def files(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, those that are being written left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.parts)
    }


def test_two_writers_leave_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = get_context("spawn")
    places = {version: tmp_path / f"alone{version}" for version in (1, 2)}
    both = tmp_path / "both"
    both.mkdir()
    monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(both / "plan_cache"))
    processes = [
        context.Process(target=write_all, args=(both, version)) for version in places
    ]
    for process in processes:
        process.start()
    for version, place in places.items():
        place.mkdir()
        monkeypatch.setenv("JAXSWAP_CACHE_DIR", str(place / "plan_cache"))
        write_all(place, version)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    first, second = (files(place) for place in places.values())
    for name, content in files(both).items():
        if name.startswith(("errors", "prepared_case")):  # Named by their data.
            continue
        if name.endswith(".jsonl"):
            lines = [json.loads(line) for line in content.decode().splitlines()]
            assert len(lines) == 2 * ROUNDS
        elif name.endswith(".svg"):  # Its identifiers are new each time.
            assert content.endswith(b"</svg>\n")
        else:
            assert content in (first.get(name), second.get(name)), name
    missing = {name for name in first if name not in files(both)}
    assert not {name for name in missing if not name.startswith("prepared_case")}
    for version in places:
        errors = json.loads((both / f"errors{version}.json").read_text())
        assert not errors
