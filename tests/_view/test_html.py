"""A plan as a page: whole, safe, self-contained, and readable without scripts."""

import dataclasses
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from handmade import MIB
from handmade_plans import COMPILED, SLOW_LINK, empty_plan, forward_plan, mixed_plan

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._plans.plan import Plan
from jaxswap._view.html import to_html
from jaxswap._view.lanes import spans_of

VOID = {"meta", "input"}
HARM = "<script>alert('x')</script>&\"quoted\""


class Page(HTMLParser):
    """Checks that tags match, and collects table rows, tooltips and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.rows: list[list[str]] = []
        self.tips: list[str] = []
        self.hints: set[str | None] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.hints.update(text for name, text in attrs if name == "title")
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        if tag == "title" and "svg" in self.open:
            self.tips.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            self.rows[-1][-1] += data
        elif self.open[-1:] == ["title"] and "svg" in self.open:
            self.tips[-1] += data
        if not {"script", "style"} & set(self.open):
            self.text += data


def charts(page: str) -> list[ElementTree.Element]:
    return [
        ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)
    ]


def decisions(plan: Plan) -> list[list[str]]:
    """Cells of the table of decisions."""
    return [row for row in Page(to_html(plan)).rows if len(row) == 7]


def test_page_shows_the_numbers_and_says_what_they_are() -> None:
    plan = mixed_plan(SLOW_LINK, budget_bytes=1024 * MIB, reserve_bytes=64 * MIB)
    text = Page(to_html(plan)).text
    free = 960 * MIB - plan.device_bytes
    for said in (
        "Plan for slow",
        f"{format_bytes(plan.device_bytes)}predicted",
        f"{format_bytes(free)} free of 1.00 GiB less 64.0 MiB in reserve",
        f"{format_seconds(plan.seconds)}simulated",
        f"{format_seconds(plan.timeline.stall_seconds)}simulated",
    ):
        assert said in text
    assert "640 MiBcompiled" in Page(to_html(mixed_plan(compiled=COMPILED))).text


def test_exceeded_budget_is_said_to_be() -> None:
    plan = mixed_plan(budget_bytes=64 * MIB)
    missing = format_bytes(plan.device_bytes - 64 * MIB)
    assert f"{missing} too much of 64.0 MiB" in Page(to_html(plan)).text


def test_every_decision_is_in_the_table_largest_first() -> None:
    plan = mixed_plan(SLOW_LINK)
    rows = decisions(plan)
    assert len(rows) == len(plan.rows)
    assert sorted(row[6] for row in rows) == sorted(row.why for row in plan.rows)
    values = list(plan.graph.values)
    small = plan.rows[0].value.index
    values[small] = dataclasses.replace(values[small], nbytes=2 * MIB)
    graph = dataclasses.replace(plan.graph, values=tuple(values))
    assert decisions(dataclasses.replace(plan, graph=graph))[-1][0] == "2.00 MiB"
    (swapped,) = [row for row in rows if row[1] == "offload"]
    stall = format_seconds(plan.timeline.stall_seconds)
    assert (swapped[0], swapped[3]) == ("64.0 MiB", stall)


def test_copies_have_tooltips() -> None:
    plan = mixed_plan()
    tips = Page(to_html(plan)).tips
    for copy in plan.timeline.transfers:
        way = "device" if copy.is_inward else "host"
        tip = (
            f"copy to the {way}: tanh\n64.0 MiB, {format_seconds(copy.seconds)} from "
            f"{format_seconds(copy.start_seconds)} on, simulated"
        )
        assert tip in tips


def test_charts_are_valid_and_stay_within_their_borders() -> None:
    plan = mixed_plan(SLOW_LINK, budget_bytes=4096 * MIB, compiled=COMPILED)
    memory, lanes = charts(to_html(plan))
    for chart in (memory, lanes):
        _, _, width, height = map(float, chart.attrib["viewBox"].split())
        for element in chart.iter():
            for name, most in (
                ("x", width),
                ("x2", width),
                ("y", height),
                ("y2", height),
            ):
                assert 0 <= float(element.attrib.get(name, 0)) <= most
    assert {"budget", "compiled"} <= {
        e.attrib.get("class") for e in memory.iter("line")
    }
    bars = [e for e in lanes if e.tag == "rect"]
    per_second = (992 - 74) / plan.seconds
    for bar, span in zip(bars, spans_of(plan.timeline), strict=True):
        left, width = float(bar.attrib["x"]), float(bar.attrib["width"])
        assert left == pytest.approx(74 + span.start_seconds * per_second, abs=0.1)
        assert width == pytest.approx(span.seconds * per_second, abs=0.4)


def test_memory_line_reaches_its_peak() -> None:
    plan = mixed_plan()
    memory, _ = charts(to_html(plan))
    found: dict[str, float] = {}
    for path in memory.iter("path"):
        heights = map(float, re.findall(r"V([\d.]+)", path.attrib["d"]))
        found[path.attrib["class"]] = min(heights, default=0.0)
    floor, top = 300 - 24, 22
    most = 1.08 * plan.plain.device_bytes
    for name, timeline in (("kept", plan.plain), ("after", plan.timeline)):
        height = floor - (floor - top) * timeline.device_bytes / most
        assert found[name] == pytest.approx(height, abs=0.1)


def test_users_text_is_escaped() -> None:
    plan = mixed_plan()
    values = [
        dataclasses.replace(v, name=HARM, scope=HARM, source=HARM)
        for v in plan.graph.values
    ]
    graph = dataclasses.replace(plan.graph, values=tuple(values))
    target = dataclasses.replace(plan.target, name=HARM, device_name=HARM)
    plan = dataclasses.replace(plan, graph=graph, target=target, policy=HARM)
    page = Page(to_html(plan))
    assert page.scripts == 1
    assert page.text.count(HARM) > 3
    assert any(HARM in tip for tip in page.tips)
    assert page.hints == {HARM}


def test_page_loads_nothing() -> None:
    page = to_html(mixed_plan(budget_bytes=900 * MIB))
    assert not re.search(r"https?:|src=|href=|@import|url\((?!#)", page)


def test_everything_is_there_before_the_script() -> None:
    page = to_html(mixed_plan())
    assert page.index("</table></div>") < page.index("<script>")
    assert "prefers-color-scheme:dark" in page


def test_program_without_decisions_has_a_page() -> None:
    for plan in (forward_plan(), empty_plan()):
        page = Page(to_html(plan))
        assert "No value was large enough to decide on." in page.text
