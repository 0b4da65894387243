"""`Evaluation` -> one HTML page that needs no other file.

It shows statistics, every case as a dot, pictures of the worst, middle and best case, a
table of all cases, and everything that could not be scored. The scripts sort and filter
the table, and do nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from html import escape

from jaxswap.medical.scoring.case_scoring import CaseScores
from jaxswap.medical.scoring.evaluation import METRICS, Evaluation, metric_values
from jaxswap.medical.scoring.page_style import SCRIPT, STYLE
from jaxswap.medical.scoring.paired_comparison import COMPARED, Comparison
from jaxswap.medical.scoring.strip_plots import strip_plot
from jaxswap.medical.scoring.summaries import Summary

_FEW = 6  # Up to this many regions are shown one by one.
_DIGITS = {"hd95_mm": 1, "lesion_hd95_mm": 1, "difference_ml": 1}
_ABOUT_PICTURES = (
    "Planes through the largest piece of the reference. The upper row is the image. In "
    "the lower row the reference is a wide band, the prediction a dashed line; a band "
    "without dashes is missed, dashes without a band are made up. R is the patient's "
    "right. Slices are counted from 1, from left, back and below."
)
_BOUNDS = {
    "hd95_mm": "positive",
    "lesion_hd95_mm": "positive",
    "difference_ml": "signed",
}


def evaluation_page(
    evaluation: Evaluation,
    pictures: Mapping[str, tuple[CaseScores, bytes]],
    comparison: Comparison | None = None,
) -> str:
    """Write an evaluation as one HTML page.

    Args:
        evaluation: The scores.
        pictures: For each title, such as "worst", a case and its picture as PNG.
        comparison: With other predictions of the same cases. None shows none.

    Returns:
        The page. It loads nothing, and without scripts it still shows everything.
    """
    title = escape(f"Evaluation ({evaluation.label_map.name})")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<title>{title}</title>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="quiet">{escape(_counts(evaluation))}</p>
<section class="cards">{"".join(_cards(evaluation))}</section>
{_faults(evaluation)}
<h2>Over all cases</h2>
{_overview(evaluation)}
{_statistics(evaluation)}
{_comparison(comparison)}
<h2>Every case</h2>
<div class="plots">{"".join(_plots(evaluation))}</div>
<h2>Pictures</h2>
<p class="quiet">{escape(_ABOUT_PICTURES)}</p>
{"".join(_pictures(pictures))}
<h2>All cases</h2>
{_cases(evaluation)}
<h2>Definitions</h2>
{_definitions(evaluation)}
<script>{SCRIPT}</script>
</body>
</html>
"""


def _counts(evaluation: Evaluation) -> str:
    missing = sum(fault.is_missing for fault in evaluation.faults)
    failed = len(evaluation.faults) - missing
    parts = [f"{len(evaluation.scores)} cases scored"]
    parts += [f"{missing} without prediction"] if missing else []
    parts += [f"{failed} failed"] if failed else []
    if evaluation.left_out:
        parts.append(f"{len(evaluation.left_out)} without prediction left out")
    if evaluation.unmatched:
        parts.append(f"{len(evaluation.unmatched)} predictions without reference")
    return " · ".join(parts)


def _cards(evaluation: Evaluation) -> Iterator[str]:
    """Make cards of the mean Dice: of each region if they are few, else of all."""
    summaries = {"mean over regions": evaluation.mean_dice()}
    if len(evaluation.label_map.regions) <= _FEW:
        summaries |= {
            region: evaluation.summaries(region)["dice"]
            for region in evaluation.label_map.regions
        }
    for name, summary in summaries.items():
        yield (
            f'<div class="card"><div>{escape(name)}</div>'
            f"<strong>{summary.mean:.3f}</strong>"
            f'<div class="quiet">mean Dice{_interval(summary, 3)}</div></div>'
        )


def _interval(summary: Summary, digits: int) -> str:
    if summary.confidence_95 is None:
        return ""
    low, high = (_text(value, digits) for value in summary.confidence_95)
    return f", 95 % CI {low} to {high}"


def _faults(evaluation: Evaluation) -> str:
    """List what could not be scored. Empty if all could."""
    items = [
        f"<li><strong>{escape(fault.case)}</strong>: "
        f"{escape(' '.join(fault.reasons))}</li>"
        for fault in evaluation.faults
    ]
    items += [
        f"<li>{escape(str(path))}: belongs to no reference.</li>"
        for path in evaluation.unmatched
    ]
    if not items:
        return ""
    return (
        '<section class="faults"><h2>Not scored</h2><p>These are in no number on this '
        f"page.</p><ul>{''.join(items)}</ul></section>"
    )


def _overview(evaluation: Evaluation) -> str:
    """Make a table of means of each region, and of its counts over all cases."""
    heads = ("region", *(f"mean {name}" for name in METRICS.values()))
    heads += ("lesions found", "missed", "made up")
    heads += ("empty references", "empty predictions")
    rows = []
    for region in evaluation.label_map.regions:
        scores = evaluation.of_region(region)
        cells = [
            _number(summary.mean, _DIGITS.get(metric, 3))
            for metric, summary in evaluation.summaries(region).items()
        ]
        counts = (
            sum(score.lesions.found for score in scores),
            sum(score.lesions.missed for score in scores),
            sum(score.lesions.made_up for score in scores),
            sum(score.reference_ml == 0 for score in scores),
            sum(score.prediction_ml == 0 for score in scores),
        )
        cells += [_number(count, 0) for count in counts]
        rows.append(f"<tr><td>{escape(region)}</td>{''.join(cells)}</tr>")
    return _table("", heads, rows, first_number=1)


def _statistics(evaluation: Evaluation) -> str:
    heads = ("region", "metric", "mean", "95 % CI of the mean", "standard deviation")
    heads += ("median", "quartiles", "smallest", "largest")
    rows = []
    for region in evaluation.label_map.regions:
        for metric, summary in evaluation.summaries(region).items():
            digits = _DIGITS.get(metric, 3)
            cells = [
                _number(summary.mean, digits),
                _range(summary.confidence_95, digits),
            ]
            cells += [
                _number(summary.deviation, digits),
                _number(summary.median, digits),
            ]
            cells += [_range(summary.quartiles, digits)]
            cells += [_number(extreme, digits) for extreme in summary.extremes]
            rows.append(
                f"<tr><td>{escape(region)}</td><td>{escape(METRICS[metric])}</td>"
                f"{''.join(cells)}</tr>"
            )
    is_short = len(evaluation.label_map.regions) <= _FEW
    return (
        f"<details{' open' if is_short else ''}><summary>All statistics</summary>"
        f"{_table('', heads, rows, first_number=2)}</details>"
    )


def _comparison(comparison: Comparison | None) -> str:
    """Make a table of paired differences. Empty if nothing was compared."""
    if comparison is None:
        return ""
    heads = ("region", "metric", "mean", "mean of the others", "difference")
    heads += ("95 % CI of the difference", "better in", "worse in", "p")
    rows = []
    for one in comparison.differences:
        digits = _DIGITS.get(one.metric, 3)
        cells = [_number(v, digits) for v in (one.first, one.second, one.difference)]
        cells.append(_range(one.confidence_95, digits))
        cells += [_number(count, 0) for count in (one.better, one.worse)]
        cells.append(_number(one.p_value, 4))
        rows.append(
            f"<tr><td>{escape(one.region)}</td><td>{escape(COMPARED[one.metric])}</td>"
            f"{''.join(cells)}</tr>"
        )
    count = len(comparison.cases)
    told = (
        f"{count} cases scored for both, case by case; {len(comparison.left_out)} for "
        "one alone, left out. p: Wilcoxon's signed-rank test, two-sided, not corrected "
        f"for {len(rows)} comparisons."
    )
    return (
        f'<h2>Compared with other predictions</h2><p class="quiet">{escape(told)}</p>'
        f"{_table('', heads, rows, first_number=2)}"
    )


def _plots(evaluation: Evaluation) -> Iterator[str]:
    for metric, name in METRICS.items():
        rows = {
            region: [
                (case.case, metric_values(case.regions[region])[metric])
                for case in evaluation.scores
            ]
            for region in evaluation.label_map.regions
        }
        svg = strip_plot(
            rows,
            bounds=_BOUNDS.get(metric, "unit"),
            format_=f".{_DIGITS.get(metric, 3)}f",
        )
        yield f"<figure><figcaption>{escape(name)}</figcaption>{svg}</figure>"


def _pictures(
    pictures: Mapping[str, tuple[CaseScores, bytes]],
) -> Iterator[str]:
    for title, (case, png) in pictures.items():
        dice = ", ".join(f"{name} {r.dice:.3f}" for name, r in case.regions.items())
        if len(case.regions) > _FEW:
            dice = f"mean {case.mean_dice:.3f}"
        about = escape(f"{title}: {case.case} (Dice: {dice})")
        yield (
            f"<figure><figcaption>{about}</figcaption>"
            f'<img alt="{about}" src="data:image/png;base64,{b64encode(png).decode()}">'
            "</figure>"
        )


def _cases(evaluation: Evaluation) -> str:
    heads = ("case", "region", *METRICS.values())
    heads += ("reference (mL)", "prediction (mL)", "found", "missed", "made up")
    rows = []
    for case in evaluation.scores:
        for region, scores in case.regions.items():
            cells = [
                _number(value, _DIGITS.get(metric, 3))
                for metric, value in metric_values(scores).items()
            ]
            cells += [_number(scores.reference_ml, 1), _number(scores.prediction_ml, 1)]
            lesions = scores.lesions
            counts = (lesions.found, lesions.missed, lesions.made_up)
            cells += [_number(count, 0) for count in counts]
            rows.append(
                f"<tr><td>{escape(case.case)}</td><td>{escape(region)}</td>"
                f"{''.join(cells)}</tr>"
            )
    return (
        '<p class="quiet" id="hint" hidden>Click a heading to sort.</p>'
        '<input id="filter" type="search" placeholder="filter by case or region" '
        'aria-label="filter" hidden>' + _table("rows", heads, rows, first_number=2)
    )


def _table(
    name: str, heads: tuple[str, ...], rows: list[str], first_number: int
) -> str:
    cells = "".join(
        f'<th scope="col"{" class=number" if place >= first_number else ""}>'
        f"{escape(head)}</th>"
        for place, head in enumerate(heads)
    )
    return (
        f'<div class="wide"><table{f" id={name}" if name else ""}><thead><tr>{cells}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return '<td class="number">–</td>'
    return f'<td class="number" data-sort="{value!r}">{_text(value, digits)}</td>'


def _range(values: tuple[float, float] | None, digits: int) -> str:
    if values is None:
        return '<td class="number">–</td>'
    low, high = (_text(value, digits) for value in values)
    return f'<td class="number">{low} to {high}</td>'


def _text(value: float, digits: int) -> str:
    return f"{value:z.{digits}f}"  # "z": no minus before zero.


def _definitions(evaluation: Evaluation) -> str:
    rules = evaluation.rules
    penalty_mm = rules.lesions.penalty_mm
    penalty = (
        "the diagonal of the image" if penalty_mm is None else f"{penalty_mm:g} mm"
    )
    items = (
        "Dice: twice the overlap over the sum of both volumes. Both empty: 1.",
        "HD95: the larger of the two directed 95th percentiles of the distances "
        f"between both surfaces, by area. Both empty: 0 mm; one empty: {penalty}.",
        f"Surface Dice: share of both surfaces, by area, within {rules.tolerance_mm:g} "
        "mm of the other one. Both empty: 1; one empty: 0.",
        f"Lesions, as in BraTS 2023: the reference is dilated by "
        f"{rules.lesions.dilation_voxels} voxels, and pieces that touch then are one "
        f"lesion (26 neighbours); those of {rules.lesions.smallest_mm3:g} mm³ or less "
        "are not counted. Lesion-wise Dice: the sum over reference lesions, divided by "
        "the number of lesions found, missed and made up; 1 if there are none. "
        "Lesion-wise HD95: the mean over the same lesions, where one that is missed or "
        f"made up counts as {penalty}; 0 mm if there are none.",
        "Volume difference: prediction minus reference.",
        "95 % CI: percentiles of the mean under 10,000 resamplings of the cases.",
    )
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
