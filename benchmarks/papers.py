"""Lines of results -> the tables of the two papers that jaxswap carries on.

The network is theirs (isensee2017, float32), the card has their 16 GB. Rows of
compiled programs are held against the card: no GPU of 16 GB is among the targets.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks import largest
from benchmarks.case import card_bytes
from benchmarks.programs import unet_of
from benchmarks.suites import PAPER_CARD, PAPER_METHODS, PAPER_SIDES
from benchmarks.tables import MIB, markdown, newest, seconds_of, source

Row = dict[str, Any]
NAIVE = "SwapEverything"
SWAPPING = ("SwapEverything", "Imai2018", "TFLMSv2", "jaxswap")
NAMES = {"side": "largest volume", "batch": f"largest batch of {largest.BATCH_SIDE}³"}
FIRST_SEED = "17.1%"
"""Imai et al. 2018: how much of the communication overhead their tuning took away."""


def tables(rows: Sequence[Row]) -> str:
    """All three tables, for each backend and target that has rows."""
    rows = [row for row in newest(rows) if not row["is_tiny"]]
    places = dict.fromkeys(
        (row["backend"], row["target"])
        for row in rows
        if row["backend"] in ("compiled", "device")
    )
    parts = []
    for place in places:
        mine = [row for row in rows if (row["backend"], row["target"]) == place]
        if place[0] == "device":  # PyTorch's methods on the same card
            mine += [row for row in rows if row["backend"] == "torch"]
        parts += [trains_at_all(mine), tuning(mine), largest_sizes(mine)]
    return "\n\n".join(part for part in parts if part)


def trains_at_all(rows: Sequence[Row]) -> str:
    """What fits the card, how many voxels a second, at what cost."""
    limit = card_bytes(PAPER_CARD)
    found = _of_paper(rows)
    if not found:
        return ""
    plain = _plain_seconds(rows)
    methods = [m for m in PAPER_METHODS if any(key[1] == m for key in found)]
    methods += sorted({key[1] for key in found} - set(methods))
    head = ["method", *(f"{side}³" for side in PAPER_SIDES)]
    lines = []
    for method in methods:
        cells = [method]
        for side in PAPER_SIDES:
            row = found.get((side, method))
            cells.append(_cell(row, side, limit, plain.get(side)))
        lines.append(cells)
    title = f"### {PAPER_CARD} card, 3-D U-Net, float32: {source(rows[0])}"
    note = (
        "Million voxels a second, seconds over plain's, device MiB. A step is loss and "
        "gradient. Where plain does not fit, the overhead is against plain on a larger "
        "card."
    )
    return "\n".join([title, "", markdown(head, lines), "", note])


def _of_paper(rows: Sequence[Row]) -> dict[tuple[int, str], Row]:
    """Rows of table (a), by side and method."""
    found = {}
    for row in rows:
        side, kind, batch = unet_of(row["workload"]) or (0, "", 0)
        is_device = row["backend"] != "compiled"
        if side not in PAPER_SIDES or kind != "fp32" or batch != 1:
            continue
        if row["budget"] not in ("", PAPER_CARD):
            continue
        if row["card"] != (PAPER_CARD if is_device else ""):
            continue
        if row["method"] in PAPER_METHODS or row["backend"] == "torch":
            found[side, row["method"]] = row
    return found


def _plain_seconds(rows: Sequence[Row]) -> dict[int, float]:
    """Seconds of the plain step by side, whichever card it ran on."""
    found = {}
    for row in rows:
        side, kind, batch = unet_of(row["workload"]) or (0, "", 0)
        seconds = seconds_of(row)
        if row["method"] == "plain" and (kind, batch) == ("fp32", 1) and seconds:
            found[side] = seconds
    return found


def _cell(row: Row | None, side: int, limit: int, plain: float | None) -> str:
    if row is None:
        return "not measured"
    fits = largest.fits_card(row, limit)
    if fits is None:
        return "given up"
    needs = row.get("smallest_bytes", row.get("device_bytes"))
    if not fits:
        of_error = row.get("error", "")
        is_memory = not of_error or "fit" in of_error or "memory" in of_error
        reason = "does not fit" if is_memory else of_error
        return f"{reason}, {needs / MIB:,.0f}" if needs else reason
    seconds = seconds_of(row)
    if seconds is None:
        return f"fits, {needs / MIB:,.0f}" if needs else "fits"
    over = f"{seconds / plain - 1:+.0%}" if plain else ""
    size = row["device_bytes"] if "device_bytes" in row else row["peak_bytes"]
    cells = [f"{side**3 / seconds / 1e6:,.0f}", over, f"{size / MIB:,.0f}"]
    return ", ".join(cell for cell in cells if cell)


def tuning(rows: Sequence[Row]) -> str:
    """What tuning takes off the overhead of naive swapping, by volume."""
    plain = _plain_seconds(rows)
    lines = []
    for side in PAPER_SIDES:
        found = {m: row for (s, m), row in _of_paper(rows).items() if s == side}
        naive = seconds_of(found.get(NAIVE, {"error": ""}))
        if side not in plain or naive is None or naive <= plain[side]:
            continue
        for method in SWAPPING:
            seconds = seconds_of(found.get(method, {"error": ""}))
            if seconds is None:
                continue
            over = seconds - plain[side]
            less = over / (naive - plain[side]) - 1
            cut = "" if method == NAIVE else f"{less:+.1%}"
            copied = found[method].get("copied_bytes")
            if not copied:  # it had room enough not to swap
                continue
            exposed = f"{found[method].get('exposed_bytes', 0) / copied:.0%}"
            lines.append([f"{side}³, {method}", f"{over * 1e3:,.1f}", cut, exposed])
    if not lines:
        return ""
    head = ["volume, method", "ms over plain's step", "of naive's", "exposed bytes"]
    title = f"### What tuning buys (first seed: -{FIRST_SEED}): {source(rows[0])}"
    note = (
        f"Naive is {NAIVE}. TFLMSv2 and jaxswap are given {PAPER_CARD} and left out "
        "where that is enough not to swap at all."
    )
    return "\n".join([title, "", markdown(head, lines), "", note])


def largest_sizes(rows: Sequence[Row]) -> str:
    """The largest volume and the largest batch by method and card."""
    if not rows or rows[0]["backend"] not in ("compiled", "device"):
        return ""
    backend, target = rows[0]["backend"], rows[0]["target"]
    asked = list(largest.questions(backend, target))
    answers = {(q.kind, q.method, q.card): largest.known(q, rows) for q in asked}
    cards = sorted(largest.CARDS, key=card_bytes)
    head = ["what, method", *cards]
    lines = []
    for kind in largest.KINDS:
        for method in largest.SEARCHED:
            cells = [_answer(kind, answers[kind, method, card]) for card in cards]
            if any(cells):
                lines.append([f"{NAMES[kind]}, {method}", *cells])
    if not lines:
        return ""
    title = f"### Largest volume and batch, float32: {source(rows[0])}"
    note = (
        "Each answer was compiled or run and so was the next step (16 voxels, one "
        "volume), which did not fit; ≥: fits, the next step was not measured."
    )
    return "\n".join([title, "", markdown(head, lines), "", note])


def _answer(kind: str, found: largest.Known) -> str:
    if not found.low:
        return ""
    size = found.low * largest.DIVISOR if kind == "side" else found.low
    shown = f"{size}³" if kind == "side" else f"{size}"
    return shown if found.is_settled else f"≥ {shown}"
