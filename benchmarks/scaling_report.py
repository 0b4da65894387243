"""The scaling study as a table and as a picture, with what both assume beside them."""

import pathlib
import textwrap
from collections.abc import Iterator
from typing import Any

from benchmarks import harness

PICTURE = harness.RESULTS / "scaling.png"
Rows = list[dict[str, Any]]

ASSUMPTIONS = (
    "Nothing was timed: steps are simulated by `jaxswap.plan` without compiling, at "
    "published rates times the shares that an H200 reached "
    "(`jaxswap/_gpu/published.py`): one volume on each GPU, loss and gradient of "
    "isensee2017 with 16 filters, without the optimizer.",
    "Full nodes, then more of them. GPUs of a node share links, sockets' memory (80 % "
    "of its bandwidth is for copies) and its size as `jaxswap/_gpu/node.py` says. All "
    "GPUs compute equally fast; there are no stragglers.",
    "All-reduce: one ring over 33 MB of float32 gradients at 82 % of the slowest link, "
    "3.4 us a step, 14 us between nodes (NCCL's figures); not overlapped, as XLA sums "
    "the gradients at the end (2 all-reduces, 20 MB in compiled bfloat16 programs).",
    "Input: 17 bytes a voxel over the host link before each step, not overlapped, as "
    "`jaxswap train` does it. Reading, decoding and the file system are left out: the "
    "fastest node of the study has to be fed {feed:.1f} GB/s.",
    "The volume of 192³ voxels is planned for 40 % of plain's device memory, the other "
    "for 90 % of the card's. A plan may swap, recompute and keep; TFLMSv2 is the "
    "published system's own tuning, planned by the same machinery.",
    "V100: matrix units for fp16 are not used, as in the papers. The PCIe 3 machine is "
    "the AC922 with two GPUs behind each switch of 15.75 GB/s each way.",
)
NVLINK, PCIE3 = "V100 16 GB, NVLink (AC922)", "V100 16 GB, PCIe 3"
"""The papers' machine, and its counterpart."""
MARKERS = {
    "computation": "o",
    "recomputation": "s",
    "host link": "D",
    "shared host link": "v",
    "all-reduce": "^",
    "input copy": "P",
}
COLOURS = {
    "plain": "#7f7f7f",
    "recomputation only": "#009e73",
    "planned": "#0072b2",
    "TFLMSv2": "#d55e00",
}


def table(rows: Rows) -> str:
    """Return the figures as Markdown, then what they assume."""
    counts = sorted({row["gpus"] for row in rows})
    head = [
        "machine",
        "volume",
        "method",
        "GPU memory",
        *map(str, counts),
        "limited by",
    ]
    lines = [
        f"| {' | '.join(head)} |",
        "|---|---|---|---:|" + "---:|" * len(counts) + "---|",
    ]
    for line in lines_of(rows):
        first = line[0]
        by_count = {row["gpus"]: row for row in line}
        cells = [
            first["machine"],
            volume(first),
            first["method"],
            f"{first['device_bytes'] / 2**30:.1f} GiB",
            *(figure(by_count.get(count)) for count in counts),
            limits(line),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Million voxels per second, by the number of GPUs.", ""]
    lines += [f"- {text}" for text in [*claim(rows), *assumptions(rows)]]
    return "\n".join(lines)


def assumptions(rows: Rows) -> list[str]:
    """Return what the figures assume, a sentence or two each."""
    fastest = max((feed(row) for row in rows), default=0.0)
    return [text.format(feed=fastest / 1e9) for text in ASSUMPTIONS]


def claim(rows: Rows) -> list[str]:
    """Set the figures beside what the papers hold, if those machines are among them."""

    def rate(machine: str, method: str) -> float:
        wanted = {"machine": machine, "method": method, "size": 320, "gpus": 4}
        row = next(r for r in rows if all(r[k] == v for k, v in wanted.items()))
        return row["voxels_per_second"]

    if not {NVLINK, PCIE3} <= {row["machine"] for row in rows}:
        return []
    published, planned = (
        rate(NVLINK, method) / rate(PCIE3, method) for method in ("TFLMSv2", "planned")
    )
    return [
        "IBM's case study of 2018, on which Matzek et al. (arXiv:1811.12174) build, "
        "argues that swapping wants NVLink between CPU and GPU; their tables were not "
        f"at hand. Here, four GPUs at 320³: NVLink is {published:.2f} times as fast as "
        f"PCIe 3 with TFLMSv2's swapping, {planned:.2f} times with plans.",
    ]


def feed(row: dict[str, Any]) -> float:
    """Bytes per second that each node has to read, of float16 images and labels."""
    nodes = -(-row["gpus"] // row["node_gpus"])
    return 9 * (row["voxels_per_second"] or 0.0) / nodes


def lines_of(rows: Rows) -> Iterator[Rows]:
    """Yield the rows of each machine, volume and method, by number of GPUs."""
    keys = dict.fromkeys((r["machine"], r["size"], r["method"]) for r in rows)
    for key in keys:
        found = [r for r in rows if (r["machine"], r["size"], r["method"]) == key]
        yield sorted(found, key=lambda row: row["gpus"])


def volume(row: dict[str, Any]) -> str:
    """How the table calls a volume."""
    return f"{row['size']}³ {row['precision']}"


def figure(row: dict[str, Any] | None) -> str:
    """Voxels per second of a row, in millions."""
    if row is None or row["voxels_per_second"] is None:
        return "–"
    millions = row["voxels_per_second"] / 1e6
    return f"{millions:,.0f}" if millions >= 100 else f"{millions:.1f}"


def limits(line: Rows) -> str:
    """Say what limits a method, and from how many GPUs on something else does."""
    said: list[str] = []
    before = None
    for row in line:
        if row["limit"] != before:
            said.append(
                row["limit"] if before is None else f"{row['limit']} from {row['gpus']}"
            )
            before = row["limit"]
    return ", ".join(said)


def plot(rows: Rows, path: pathlib.Path) -> None:
    """Draw voxels per second of each GPU: a line that stays level scales linearly."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    machines = list(dict.fromkeys(row["machine"] for row in rows))
    drawing = Figure(figsize=(3.3 * len(machines), 9.2))
    panels = drawing.subplots(2, len(machines), squeeze=False)
    for column, machine in enumerate(machines):
        own = [row for row in rows if row["machine"] == machine]
        for row_of_panels, size in enumerate(sorted({row["size"] for row in own})):
            draw_panel(
                panels[row_of_panels][column],
                [row for row in own if row["size"] == size],
            )
    for (left, *_), text in zip(panels, ("Plain fits", "Plain does not"), strict=True):
        left.set_ylabel(f"{text}\nmillion voxels/s of each GPU")
    shown = dict.fromkeys(row["method"] for row in rows)
    limiting = {row["limit"] for row in rows if row["voxels_per_second"]}
    handles = [
        Line2D([], [], color=COLOURS.get(name, "black"), label=name) for name in shown
    ]
    handles += [
        Line2D(
            [], [], color="black", marker=marker, linestyle="", label=f"limit: {name}"
        )
        for name, marker in MARKERS.items()
        if name in limiting
    ]
    drawing.legend(
        handles=handles,
        loc="upper center",
        ncols=len(handles),
        fontsize=9,
        bbox_to_anchor=(0.5, 0.965),
        frameon=False,
    )
    drawing.suptitle(
        "Simulated training throughput: one volume on each GPU, data parallel", y=0.985
    )
    text = [textwrap.fill(t, 280) for t in [*claim(rows), *assumptions(rows)]]
    caption = "\n".join(text).replace("`", "")
    drawing.text(0.02, 0.012, caption, fontsize=8, va="bottom")
    drawing.subplots_adjust(
        left=0.05, right=0.985, top=0.87, bottom=0.21, hspace=0.32, wspace=0.28
    )
    drawing.savefig(path, dpi=110)


def draw_panel(panel: Any, rows: Rows) -> None:
    """Draw one volume on one machine."""
    # The first lines are the widest, so that none hides another.
    for line, width in zip(lines_of(rows), (6, 4.5, 3, 1.5), strict=False):
        fitting = [row for row in line if row["voxels_per_second"]]
        if not fitting:
            continue
        counts = [row["gpus"] for row in fitting]
        each = [row["voxels_per_second"] / row["gpus"] / 1e6 for row in fitting]
        colour = COLOURS.get(line[0]["method"], "black")
        panel.plot(counts, each, color=colour, linewidth=width, alpha=0.6)
        for row, x, y in zip(fitting, counts, each, strict=True):
            panel.plot(
                x,
                y,
                color=colour,
                marker=MARKERS[row["limit"]],
                markersize=6,
                alpha=0.8,
            )
    first = rows[0]
    panel.set_xscale("log", base=2)
    panel.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
    panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
    panel.set_xlabel("GPUs")
    panel.grid(alpha=0.3)
    panel.set_title(f"{first['machine']}\n{volume(first)}", fontsize=10)
