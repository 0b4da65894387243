"""The results of an audit, as tables for people and as plain data for programs."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxswap.medical.data.audit import Survey
from jaxswap.medical.data.case_files import CaseFiles
from jaxswap.medical.data.fault_groups import file_of, group_faults
from jaxswap.medical.data.grid import Shape
from jaxswap.medical.preparing.normalization import choose_schemes
from jaxswap.medical.preparing.preparing import fit_shape

_MULTIPLE = 16
_STYLES = {"error": "red", "warning": "yellow"}


def suggest_shape(survey: Survey, multiple: int = _MULTIPLE) -> Shape | None:
    """Find the smallest prepared shape that is large enough for every brain.

    Args:
        survey: The results of the audit.
        multiple: Each axis is a multiple of this.

    Returns:
        The shape. None if no brain was found.
    """
    shapes = [report.brain_shape for report in survey.reports if report.brain_shape]
    if not shapes:
        return None
    x, y, z = (max(axis) for axis in zip(*shapes, strict=True))
    return fit_shape((x, y, z), multiple)


def summarize_survey(survey: Survey) -> dict[str, Any]:
    """Return the results of an audit as plain data.

    Args:
        survey: The results of the audit.

    Returns:
        Names, counts and statistics that JSON can hold. Volumes are in milliliters.
    """
    dataset, reports = survey.dataset, survey.reports
    label_map, schemes = dataset.label_map, choose_schemes(dataset.channels)
    return {
        "root": str(dataset.root),
        "layout": dataset.layout,
        "labels": None if label_map is None else label_map.name,
        "label_values": None if label_map is None else dict(label_map.labels),
        "channels": list(dataset.channels),
        "normalization": dict(zip(dataset.channels, schemes, strict=True)),
        "cases": len(dataset.cases),
        "labeled_cases": sum(_has_labels(case) for case in dataset.cases),
        "shapes": _count("x".join(map(str, r.shape)) for r in reports if r.shape),
        "spacings_mm": _count(
            "x".join(f"{size:.3g}" for size in r.spacing_mm)
            for r in reports
            if r.spacing_mm
        ),
        "axes": _count(r.axes for r in reports if r.axes),
        "voxels_by_label": _voxels_by_label(survey),
        "regions": _regions(survey),
        "largest_brain": _largest([r.brain_shape for r in reports if r.brain_shape]),
        "suggested_shape": _listed(suggest_shape(survey)),
        "errors": len(survey.errors),
        "warnings": len(survey.warnings),
        "faults": [
            {
                "case": fault.case,
                "file": file_of(fault, dataset.root) or None,
                "kind": fault.kind,
                "message": fault.message,
                "severity": fault.severity,
            }
            for fault in survey.faults
        ],
    }


def show(survey: Survey, console: Console, *, is_each_shown: bool = False) -> None:
    """Write tables of the results, then the faults by kind.

    Args:
        survey: The results of the audit.
        console: Where to write.
        is_each_shown: Whether each fault is shown. Otherwise the worst of each kind is,
            with the number of the others.
    """
    found = summarize_survey(survey)
    console.print(Text(found["root"]), soft_wrap=True)
    console.print(_overview(found))
    if found["regions"]:
        console.print(_region_table(found["regions"]))
    _show_faults(survey, console, is_each_shown)
    console.print(_verdict(survey))
    if not is_each_shown and len(group_faults(survey.faults)) < len(survey.faults):
        console.print("--all, --csv and --json list each of them.")


def _overview(found: dict[str, Any]) -> Table:
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    voxels = found["voxels_by_label"]
    rows = {
        "layout": found["layout"],
        "cases": f"{found['cases']}, {found['labeled_cases']} of them with labels",
        "channels": ", ".join(found["channels"]),
        "normalization": ", ".join(
            f"{scheme} of {name}" for name, scheme in found["normalization"].items()
        ),
        "labels": found["labels"] or "not known",
        "voxels": _counts(found["shapes"]),
        "voxel size, mm": _counts(found["spacings_mm"]),
        "axes of files": _counts(found["axes"]),
        "largest brain": _by(found["largest_brain"]),
        "suggested shape": _by(found["suggested_shape"]),
        "voxels by label": ", ".join(f"{k}: {v:,}" for k, v in voxels.items()),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(str(value)))
    return table


def _region_table(regions: dict[str, dict[str, float]]) -> Table:
    table = Table(title="volume of regions, mL", title_justify="left")
    table.add_column("region")
    for name in ("cases", "smallest", "median", "largest"):
        table.add_column(name, justify="right")
    for region, row in regions.items():
        table.add_row(
            Text(region),
            f"{row['cases']:.0f}",
            *(_ml(row[f"{name}_ml"]) for name in ("smallest", "median", "largest")),
        )
    return table


def _show_faults(survey: Survey, console: Console, is_each_shown: bool) -> None:
    """Write one paragraph for each kind of fault.

    A file has a line of its own, which is never cut, so that its name can be copied.
    """
    for group in group_faults(survey.faults):
        color, count = _STYLES[group.severity], len(group.faults)
        shown = group.faults if is_each_shown else group.faults[:1]
        about = ""
        if count > 1:
            about = f", {count} times"
            if group.case_count:
                about += f" in {_plural(group.case_count, 'case')}"
        if len(shown) < count:
            about += "; the worst:" if group.is_ranked else "; for example:"
        line = Text.assemble((group.severity, color), f": {group.kind}{about}")
        console.print(line)
        for fault in shown:
            where = file_of(fault, survey.dataset.root) or fault.case or "data set"
            text = f"  {where}\n{_indented(fault.message, console.width)}"
            console.print(text, soft_wrap=True, markup=False, highlight=False)


def _indented(message: str, width: int) -> str:
    return textwrap.fill(
        message,
        width,
        initial_indent="    ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _verdict(survey: Survey) -> Text:
    errors, warnings = len(survey.errors), len(survey.warnings)
    if not survey.faults:
        return Text("No faults.", "green")
    bad = len({fault.case for fault in survey.errors if fault.case})
    text = (
        f"{_plural(errors, 'error')} in {_plural(bad, 'case')}, "
        f"{_plural(warnings, 'warning')}."
    )
    return Text(text, "red" if errors else "yellow")


def _ml(volume_ml: float) -> str:
    return f"{volume_ml:.1f}" if volume_ml >= 1 else f"{volume_ml:.3f}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _voxels_by_label(survey: Survey) -> dict[str, int]:
    totals: Counter[int] = Counter()
    for report in survey.reports:
        totals.update(report.label_counts or {})
    label_map = survey.dataset.label_map
    names = {} if label_map is None else {v: n for n, v in label_map.labels.items()}
    names[0] = "background"
    return {
        f"{value} {names.get(value, 'unknown')}": totals[value]
        for value in sorted(totals)
    }


def _regions(survey: Survey) -> dict[str, dict[str, float]]:
    volumes = [r.volumes_ml for r in survey.reports if r.volumes_ml]
    label_map = survey.dataset.label_map
    if label_map is None or not volumes:
        return {}
    rows = {}
    for region in label_map.regions:
        of_all = np.array([by_region[region] for by_region in volumes])
        present = of_all[of_all > 0]
        if present.size:
            rows[region] = {
                "cases": float(present.size),
                "smallest_ml": float(present.min()),
                "median_ml": float(np.median(present)),
                "largest_ml": float(present.max()),
            }
    return rows


def _largest(shapes: Sequence[Shape]) -> list[int] | None:
    return [max(axis) for axis in zip(*shapes, strict=True)] if shapes else None


def _has_labels(case: CaseFiles) -> bool:
    return case.labels is not None and case.labels.is_file()


def _count(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _counts(counts: dict[str, int]) -> str:
    some = [f"{value} ({count})" for value, count in list(counts.items())[:6]]
    return ", ".join([*some, *(["..."] if len(counts) > 6 else [])])


def _by(shape: Sequence[int] | None) -> str:
    return "x".join(map(str, shape)) if shape else ""


def _listed(shape: Shape | None) -> list[int] | None:
    return None if shape is None else list(shape)
