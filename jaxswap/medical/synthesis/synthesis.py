"""Making data sets of synthetic cases: in parallel, and resumable.

From a recipe, a seed and a number, this file makes a folder in a layout that
segmentation tools read. `synthesis.json` says what it is made of, and `cases.csv` has a
line for each case. Existing cases are kept.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from math import prod
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, TypedDict

from jaxswap.extend import user_folder
from jaxswap.medical.data.memory import require_memory
from jaxswap.medical.data.plain_files import read_json
from jaxswap.medical.data.writing import require_writable, whole_file
from jaxswap.medical.synthesis.half_millimetre import fetch_templates
from jaxswap.medical.synthesis.parcellation import draw_parcellation, load_atlas
from jaxswap.medical.synthesis.synthetic_case import draw_case
from jaxswap.medical.synthesis.synthetic_files import (
    SUMMARY,
    is_whole,
    record_path,
    synthetic_name,
    write_brats,
    write_dataset_json,
    write_nnunet,
    write_table,
)
from jaxswap.medical.synthesis.synthetic_recipe import (
    PARCELLATION_STATEMENT,
    STATEMENT,
    Recipe,
)
from jaxswap.medical.synthesis.tissue_maps import load_tissue_maps

_MOST_CASES = 100_000  # Five digits in names.


@dataclass(frozen=True)
class Synthesis:
    """A data set to be made.

    Attributes:
        out: Its folder.
        recipe: What cases are made of.
        cases: Number of cases.
        seed: Seed of all of them, not negative.
        workers: Processes that make cases at the same time.
        templates: Folder of the labels that the arm `parcellation` needs. They are
            downloaded into it if they are missing. None for the other arms.

    Raises:
        ValueError: If a number is out of range, or the templates' folder is missing.
    """

    out: Path
    recipe: Recipe
    cases: int
    seed: int = 0
    workers: int = 1
    templates: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.cases <= _MOST_CASES:
            raise ValueError(
                f"`cases` is {self.cases}; it needs to be 1 to {_MOST_CASES}."
            )
        if self.seed < 0:
            raise ValueError(f"`seed` is {self.seed}; it needs to be 0 or more.")
        if self.workers < 1:
            raise ValueError(f"`workers` is {self.workers}; it needs to be 1 or more.")
        if self.recipe.arm == "parcellation" and self.templates is None:
            raise ValueError("`templates` is needed for the arm parcellation.")


def prepare_synthesis(synthesis: Synthesis) -> list[int]:
    """Check what exists, and return which cases are still to be made.

    Args:
        synthesis: The data set.

    Returns:
        Numbers of the missing cases, in ascending order.

    Raises:
        ValueError: If the folder cannot be written to, or holds cases of another recipe
            or seed.
        ModuleNotFoundError: If nilearn is not installed.
        ConnectionError: If labels are needed and cannot be downloaded.
    """
    out, arm = synthesis.out, synthesis.recipe.arm
    # Four images and the labels are there at a time, with what they are made of.
    needed_bytes = 4 * 5 * prod(map(float, synthesis.recipe.shape))
    require_memory(needed_bytes, "a case of `shape`")
    require_writable(out)
    path = out / SUMMARY
    if path.exists():
        _check_same(path, synthesis)
    elif out.is_dir() and any(not p.name.startswith(".") for p in out.iterdir()):
        raise ValueError(
            f"{out} holds files but no {SUMMARY}; synthetic cases need a folder of "
            "their own."
        )
    if arm == "parcellation":
        assert synthesis.templates is not None
        fetch_templates(synthesis.templates)
    else:
        load_tissue_maps()
    return [i for i in range(synthesis.cases) if not is_whole(out, arm, i)]


def run_synthesis(synthesis: Synthesis) -> Generator[str, None, None]:
    """Make the missing cases of a data set.

    With more than one worker, new processes make the cases. They import the script that
    calls this, so it needs an `if __name__ == "__main__"`.

    Args:
        synthesis: The data set.

    Yields:
        The name of each case when it is finished, in the order in which they finish.

    Raises:
        ValueError: See `prepare_synthesis`.
        OSError: If files cannot be written.
    """
    missing = prepare_synthesis(synthesis)
    _write_summary(synthesis)
    if synthesis.workers == 1 or len(missing) < 2:
        for index in missing:
            yield make_case(synthesis, index)
    else:
        yield from _make_in_parallel(synthesis, missing)
    _finish(synthesis)


def make_case(synthesis: Synthesis, index: int) -> str:
    """Draw one case and write it.

    Args:
        synthesis: The data set of the case.
        index: Its number.

    Returns:
        Its name.
    """
    recipe, seed = synthesis.recipe, synthesis.seed
    if recipe.arm == "parcellation":
        assert synthesis.templates is not None
        atlas = load_atlas(synthesis.templates, recipe.spacing_mm)
        case = draw_parcellation(recipe, atlas, seed, index)
        write_nnunet(synthesis.out, case, index)
    else:
        write_brats(synthesis.out, draw_case(recipe, seed, index), index)
    return synthetic_name(recipe.arm, index)


class Summary(TypedDict):
    """The content of `synthesis.json`."""

    statement: str
    seed: int
    cases: int
    recipe: Mapping[str, Any]


def describe_synthesis(synthesis: Synthesis) -> Summary:
    """Return the content of `synthesis.json`.

    Args:
        synthesis: The cases that are to be made.

    Returns:
        The statement on what the cases are, their number and seed, and the recipe.
    """
    is_parcellation = synthesis.recipe.arm == "parcellation"
    return {
        "statement": PARCELLATION_STATEMENT if is_parcellation else STATEMENT,
        "seed": synthesis.seed,
        "cases": synthesis.cases,
        "recipe": json.loads(json.dumps(asdict(synthesis.recipe))),
    }


def _make_in_parallel(synthesis: Synthesis, missing: list[int]) -> Iterator[str]:
    workers = min(synthesis.workers, len(missing))
    # Not forked, because the threads of this process would be missing in the copies.
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker
    )
    try:
        futures = [pool.submit(make_case, synthesis, index) for index in missing]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a worker process was ended from outside, perhaps because memory ran out; "
            "use fewer workers. The cases that are done are kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Let a worker finish its case on Ctrl-C, but end it if the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    # A parent that was killed cannot tell its workers. They would wait forever.
    parent.join()
    os._exit(1)


def _check_same(path: Path, synthesis: Synthesis) -> None:
    there = _read_summary(path)
    seed, recipe = there["seed"], there["recipe"]
    wanted = describe_synthesis(synthesis)
    if seed != wanted["seed"]:
        raise ValueError(
            f"{path.parent} holds cases of seed {seed}, but `seed` is "
            f"{wanted['seed']}; choose another folder."
        )
    for key, value in wanted["recipe"].items():
        if recipe.get(key) != value:
            raise ValueError(
                f"{path.parent} holds cases of another recipe (`{key}` was "
                f"{_short(recipe.get(key))}, is {_short(value)}); choose another "
                "folder."
            )


def _read_summary(path: Path) -> Summary:
    return read_json(path, Summary)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 40 else text[:37] + "..."


def _write_summary(synthesis: Synthesis) -> None:
    path = synthesis.out / SUMMARY
    summary = describe_synthesis(synthesis)
    if path.exists():
        summary["cases"] = max(summary["cases"], _read_summary(path)["cases"])
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _finish(synthesis: Synthesis) -> None:
    """Write what needs all cases, also those of an earlier, larger run."""
    out, arm = synthesis.out, synthesis.recipe.arm
    summary = _read_summary(out / SUMMARY)
    whole = [i for i in range(summary["cases"]) if is_whole(out, arm, i)]
    write_table(
        out,
        (read_json(record_path(out, arm, i), Mapping[str, Any]) for i in whole),
    )
    if arm == "parcellation":
        assert synthesis.templates is not None
        atlas = load_atlas(synthesis.templates, synthesis.recipe.spacing_mm)
        write_dataset_json(out, atlas.label_map, len(whole), summary["statement"])


def default_templates() -> Path:
    """Return the folder of downloaded templates, see `user_folder`."""
    return user_folder("templates")
