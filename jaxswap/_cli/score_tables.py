"""The scores of `jaxswap evaluate` as tables for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from jaxswap.medical.data.shown_names import short_name
from jaxswap.medical.scoring.evaluation import Evaluation
from jaxswap.medical.scoring.paired_comparison import COMPARED, Comparison

_WIDEST = 18  # Of 80 columns, the others need the rest.


def tabulate(evaluation: Evaluation) -> Table:
    """Make a table of the mean scores of each region.

    Args:
        evaluation: The scores.
    """
    cases, faults = len(evaluation.scores), len(evaluation.faults)
    table = Table(title=f"Mean over {cases} cases, {faults} not scored", box=SIMPLE)
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    table.add_column("region", no_wrap=True)
    for head in ("Dice", "95 % CI", "HD95\nmm", "surface\nDice"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("lesion\nDice", justify="right", no_wrap=True)
    table.add_column("lesion\nHD95\nmm", justify="right", no_wrap=True)
    table.add_column("found/\nmissed/\nmade up", justify="right", no_wrap=True)
    for region in evaluation.label_map.regions:
        metrics = evaluation.summaries(region)
        scores = evaluation.of_region(region)
        dice = metrics["dice"]
        interval = dice.confidence_95
        table.add_row(
            Text(short_name(region, _WIDEST)),
            f"{dice.mean:.3f}",
            "–" if interval is None else "{:.3f}–{:.3f}".format(*interval),
            f"{metrics['hd95_mm'].mean:.2f}",
            f"{metrics['surface_dice'].mean:.3f}",
            f"{metrics['lesion_dice'].mean:.3f}",
            f"{metrics['lesion_hd95_mm'].mean:.2f}",
            f"{sum(s.lesions.found for s in scores)}"
            f"/{sum(s.lesions.missed for s in scores)}"
            f"/{sum(s.lesions.made_up for s in scores)}",
        )
    return table


def compared(comparison: Comparison) -> Table:
    """Make a table of the differences between two models.

    Args:
        comparison: The differences.
    """
    count = len(comparison.cases)
    title = f"Minus --against, mean over {count} cases; p of Wilcoxon's test"
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("region", no_wrap=True)
    table.add_column("metric")
    for head in ("difference", "95 % CI", "better/\nworse", "p"):
        table.add_column(head, justify="right", no_wrap=True)
    for one in comparison.differences:
        interval = one.confidence_95
        table.add_row(
            Text(short_name(one.region, _WIDEST)),
            COMPARED[one.metric],
            f"{one.difference:+.3f}",
            "–" if interval is None else "{:+.3f} to {:+.3f}".format(*interval),
            f"{one.better}/{one.worse}",
            f"{one.p_value:.3g}",
        )
    return table
