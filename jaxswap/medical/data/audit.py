"""Checks of a whole data set, made before any time is spent on training with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from jaxswap.medical.data.case_audit import CaseReport as CaseReport
from jaxswap.medical.data.case_audit import inspect_case
from jaxswap.medical.data.case_files import CaseFiles, Dataset, Source
from jaxswap.medical.data.faults import Fault as Fault

_WORKERS = 4  # Reading is decompression, which threads can do at the same time.


@dataclass(frozen=True)
class Survey:
    """A data set and all that was found in it.

    Attributes:
        dataset: The data set.
        faults: All faults: those of the data set first, then those of each case.
        reports: One report for each case, in the data set's order.
    """

    dataset: Dataset
    faults: tuple[Fault, ...]
    reports: tuple[CaseReport, ...]

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults that make a case unusable as it is."""
        return tuple(fault for fault in self.faults if fault.severity == "error")

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """The faults that preparation can handle."""
        return tuple(fault for fault in self.faults if fault.severity == "warning")


def audit(dataset: Dataset, *, workers: int = _WORKERS) -> tuple[Fault, ...]:
    """List every fault of a data set at once.

    Every voxel of every file is read. Nothing is changed.

    Args:
        dataset: The data set.
        workers: Cases to read at the same time.

    Returns:
        The faults. Empty if there are none.
    """
    return survey(dataset, workers=workers).faults


def survey(
    dataset: Dataset,
    *,
    workers: int = _WORKERS,
    advance: Callable[[], None] = lambda: None,
) -> Survey:
    """List every fault of a data set, with statistics of its cases.

    Args:
        dataset: The data set.
        workers: Cases to read at the same time. Each needs memory for its channels.
        advance: Called after each case.

    Returns:
        The data set with its faults and reports.

    Raises:
        ValueError: If `workers` is not positive.
    """
    if workers < 1:
        raise ValueError(f"`workers` is {workers}, not 1 or more.")

    def look(case: CaseFiles) -> CaseReport:
        report = inspect_case(case, dataset)
        advance()
        return report

    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(look, case) for case in dataset.cases]
        try:
            reports = tuple(future.result() for future in waiting)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    whole = [
        *(Fault("", None, "data set", note, "warning") for note in dataset.notes),
        *_missing_map(dataset),
        *_missing_labels(dataset),
        *_names_twice(dataset.cases),
        *_files_twice(dataset.cases),
        *_spacings(reports),
    ]
    of_cases = [fault for report in reports for fault in report.faults]
    return Survey(dataset, (*whole, *of_cases), reports)


def _missing_map(dataset: Dataset) -> list[Fault]:
    if dataset.label_map is not None or not dataset.labeled:
        return []
    message = (
        "what the labels mean is not known; give `edition`, or name the labels in the "
        "data set's JSON file."
    )
    return [Fault("", None, "label map", message, "error")]


def _missing_labels(dataset: Dataset) -> list[Fault]:
    """List cases without labels, if others have some and the layout has no test set."""
    if dataset.layout != "brats" or not dataset.labeled:
        return []
    message = "has no label file, so it is not used for training."
    return [
        Fault(case.name, None, "missing labels", message, "warning")
        for case in dataset.cases
        if case.labels is None
    ]


def _names_twice(cases: Sequence[CaseFiles]) -> list[Fault]:
    counts = Counter(case.name for case in cases)
    return [
        Fault(name, None, "name used twice", f"{count} cases have this name.", "error")
        for name, count in counts.items()
        if count > 1
    ]


def _files_twice(cases: Sequence[CaseFiles]) -> list[Fault]:
    uses: dict[Source, list[str]] = {}
    for case in cases:
        labels = [Source(case.labels)] if case.labels else []
        for source in (*case.images, *labels):
            uses.setdefault(source, []).append(case.name)
    faults = []
    for source, names in uses.items():
        if len(names) > 1:
            message = f"is used {len(names)} times: {', '.join(sorted(set(names)))}."
            faults.append(
                Fault(names[0], source.path, "file used twice", message, "error")
            )
    return faults


def _spacings(reports: Sequence[CaseReport]) -> list[Fault]:
    counts = Counter(
        tuple(float(f"{size:.3g}") for size in report.spacing_mm)
        for report in reports
        if report.spacing_mm is not None
    )
    if len(counts) < 2:
        return []
    listed = ", ".join(
        f"{' x '.join(f'{size:g}' for size in spacing)} ({count})"
        for spacing, count in counts.most_common(5)
    )
    message = (
        f"cases have {len(counts)} voxel sizes in mm: {listed}. They are kept; "
        "`spacing_mm` resamples them."
    )
    return [Fault("", None, "voxel sizes differ", message, "warning")]
