"""`Plan` -> one HTML page that needs no other file: numbers, charts, all decisions.

The charts are SVG. The page's style gives their colours, so they follow the reader's
light or dark mode. The scripts sort and filter the table, and do nothing else.
"""

import dataclasses
from collections.abc import Iterator
from html import escape

from jaxswap._base.units import format_bytes, format_seconds
from jaxswap._gpu.target import rates_of
from jaxswap._plans.plan import Plan, Row
from jaxswap._view.lanes import LANES, peak_of
from jaxswap._view.rows import Outcome, outcomes_of, short_name
from jaxswap._view.slabs import sweep_table
from jaxswap._view.svg import lane_chart, memory_chart
from jaxswap._view.text import describe


def to_html(plan: Plan) -> str:
    """Write a plan as one HTML page.

    Args:
        plan: The plan.

    Returns:
        The page. It loads nothing, and without scripts it still shows everything.
    """
    title = escape(f"Plan for {plan.target.name}")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_style()}</style>
</head>
<body>
<h1>{title}</h1>
<p class="quiet">{escape(_about(plan))}</p>
<section class="cards">{"".join(_cards(plan))}</section>
<h2>Memory in one step</h2>
{memory_chart(plan)}
<h2>Computation and copies</h2>
{lane_chart(plan)}
<h2>At the peak</h2>
{_peak(plan)}
{sweep_table(plan)}
<h2>Decisions</h2>
{_table(plan)}
<details><summary>As text</summary><pre>{escape(describe(plan))}</pre></details>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _about(plan: Plan) -> str:
    rates = rates_of(plan.target)
    parts = [
        plan.target.device_name,
        f"{rates.basis} rates" + (f" ({rates.source})" if rates.source else ""),
        f"policy {plan.policy}" if plan.policy else "",
        f"program {plan.signature.program}",
    ]
    return " · ".join(part for part in parts if part)


def _cards(plan: Plan) -> Iterator[str]:
    """Make cards of the main numbers, each with a number to compare it with."""
    after, kept = plan.timeline, plan.plain
    is_compiled = plan.compiled is not None
    kind = "compiled" if is_compiled else "predicted"
    budget = "no budget"
    if plan.budget_bytes is not None:
        free = plan.budget_bytes - plan.reserve_bytes - plan.device_bytes
        budget = f"{format_bytes(abs(free))} {'free' if free >= 0 else 'too much'}"
        budget += f" of {format_bytes(plan.budget_bytes)}"
        if plan.reserve_bytes:
            budget += f" less {format_bytes(plan.reserve_bytes)} in reserve"
    share = 1 / plan.seconds if plan.seconds else 0.0
    recompute, stall = after.recompute_seconds, max(0.0, after.stall_seconds)
    of_copy = plan.arranger.simulator.copied_bytes
    copied = sum(of_copy[t.value] for t in after.transfers)
    yield _card("Device memory", kind, format_bytes(plan.device_bytes), budget)
    yield _card(
        "Everything kept",
        "simulated",
        format_bytes(kept.device_bytes),
        f"step of {format_seconds(kept.seconds)}",
    )
    yield _card(
        "Host memory",
        "compiled" if is_compiled else "simulated",
        format_bytes(plan.host_bytes),
        f"{format_bytes(copied)} copied in a step",
    )
    yield _card(
        "Step",
        "simulated",
        format_seconds(plan.seconds),
        f"lower bound {format_seconds(plan.bound_seconds)}, gap {plan.gap:.1%}"
        if plan.bound_seconds
        else "",
    )
    yield _card(
        "Time to recompute",
        "simulated",
        format_seconds(recompute),
        f"{recompute * share:.1%} of the step",
    )
    yield _card(
        "Waiting for copies",
        "simulated",
        format_seconds(round(stall, 12)),
        f"{stall * share:.1%} of the step",
    )


def _card(name: str, kind: str, number: str, note: str) -> str:
    return (
        f'<div class="card"><div>{escape(name)}</div><strong>{escape(number)}</strong>'
        f'<div class="quiet">{escape(kind)}</div>'
        f'<div class="quiet">{escape(note)}</div></div>'
    )


def _peak(plan: Plan) -> str:
    seconds, values = peak_of(plan)
    items = "".join(
        f"<tr><td class=number>{format_bytes(nbytes)}</td><td>{escape(name)}</td></tr>"
        for name, nbytes in values
    )
    return (
        f"<p>{format_bytes(plan.timeline.device_bytes)} of device memory are in use "
        f"{format_seconds(seconds)} into the step, simulated:</p>"
        f'<table class="small"><tbody>{items}</tbody></table>'
    )


def _table(plan: Plan) -> str:
    outcomes = outcomes_of(plan)
    rows = sorted(plan.rows, key=lambda row: -row.value.nbytes)
    if not rows:
        return "<p>No value was large enough to decide on.</p>"
    heads = ("bytes", "action", "seconds", "waits", "module", "value", "why")
    numbers = ("bytes", "seconds", "waits")
    head = "".join(
        f'<th{" class=number" if name in numbers else ""} scope="col">{name}</th>'
        for name in heads
    )
    body = "\n".join(_row(row, outcomes[row.value.index]) for row in rows)
    return (
        '<p class="quiet">Seconds are simulated.<span id="hint" hidden> '
        "Click a heading to sort.</span></p>"
        '<input id="filter" type="search" placeholder="filter" aria-label="filter" '
        f'hidden><div class="wide"><table id="rows"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(row: Row, outcome: Outcome) -> str:
    value = row.value
    name = short_name(dataclasses.replace(value, scope=""))

    def number(amount: float, text: str) -> str:
        return f'<td class="number" data-sort="{amount!r}">{escape(text)}</td>'

    return (
        "<tr>"
        + number(value.nbytes, format_bytes(value.nbytes))
        + f'<td><span class="tag {outcome.value}">{outcome.value}</span></td>'
        + number(row.seconds, format_seconds(row.seconds) if row.seconds else "")
        + number(
            row.stall_seconds,
            format_seconds(row.stall_seconds) if row.stall_seconds else "",
        )
        + f"<td>{escape(value.scope)}</td>"
        + f'<td title="{escape(value.source)}">{escape(name)}</td>'
        + f"<td>{escape(row.why)}</td></tr>"
    )


def _style() -> str:
    """Return the style of the page, with the colours of the lanes."""
    lanes = "".join(f".{kind}{{--c:{c}}}" for kind, (_, _, c) in LANES.items())
    return lanes + _STYLE


_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--quiet:#5d6672;--paper:#fff;--card:#f4f6f8;
--line:#d5dae0;--blue:#0072b2}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--quiet:#9aa4b0;--paper:#14181d;
--card:#1e242b;--line:#343c46;--blue:#4aa8e0}}
.after{--c:var(--blue)}.kept{--c:var(--quiet)}.host{--c:#009e73}
.budget{--c:#d55e00}.compiled{--c:var(--ink)}
.keep{--c:var(--blue)}.offload{--c:#009e73}.drop{--c:var(--quiet)}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{margin:0;font-size:1.6rem}h2{margin:2rem 0 .4rem;font-size:1.15rem}
.quiet{color:var(--quiet);font-size:.87em;margin:.2rem 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:.7rem;
margin-top:1rem}
.card{background:var(--card);border-radius:8px;padding:.6rem .8rem}
.card strong{font-size:1.4rem;white-space:nowrap;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}svg{width:100%;min-width:640px;display:block}
svg text{font-size:12px;fill:currentColor}.end{text-anchor:end}
.middle{text-anchor:middle}.grid{stroke:var(--line)}
.border{stroke:currentColor;stroke-dasharray:2 3}.peak{fill:currentColor}
svg path.kept,svg path.after,svg path.host{fill:none;stroke:var(--c);stroke-width:1.2}
svg path.after{stroke-width:1.8}
svg path.area{fill:var(--c);fill-opacity:.14;stroke:none}
line.budget,line.compiled{stroke:var(--c);stroke-width:1.4;stroke-dasharray:7 4}
line.compiled{stroke-dasharray:7 3 1 3}
rect{fill:var(--c)}rect.out,rect.in{stroke:var(--paper);stroke-width:.8}
rect.wait{fill:url(#waiting)}rect:hover{fill-opacity:.65}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:.2rem 0;font-size:.87em}
.waiting{--c:#d55e00}.stripe{stroke:var(--paper);stroke-width:2.5}
.legend i{display:inline-block;width:1em;height:.7em;margin-right:.4em;
background:var(--c);border-radius:2px}
table{border-collapse:collapse;width:100%;font-size:.9em}table.small{width:auto}
td,th{padding:.22rem .6rem;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line)}
th{position:sticky;top:0;background:var(--paper);white-space:nowrap}
#rows.sorts th{cursor:pointer}th[aria-sort=ascending]::after{content:" \\2191"}
th[aria-sort=descending]::after{content:" \\2193"}
.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.tag{border-left:.75em solid var(--c);padding-left:.4em;white-space:nowrap}
details{margin:2rem 0}pre{overflow-x:auto;font-size:.8em}
"""

_SCRIPT = """
const table=document.getElementById("rows"),filter=document.getElementById("filter");
if(table){const body=table.tBodies[0],heads=[...table.tHead.rows[0].cells];
table.classList.add("sorts");
filter.hidden=document.getElementById("hint").hidden=false;
const key=(row,i)=>{const cell=row.cells[i],n=cell.dataset.sort;
return n===undefined?cell.textContent:Number(n)};
heads.forEach((head,i)=>head.onclick=()=>{
const up=head.getAttribute("aria-sort")==="descending"?1:-1;
heads.forEach(other=>other.removeAttribute("aria-sort"));
head.setAttribute("aria-sort",up>0?"ascending":"descending");
const rows=[...body.rows].sort((a,b)=>{const x=key(a,i),y=key(b,i);
return up*(typeof x==="number"?x-y:x.localeCompare(y))});body.append(...rows)});
filter.oninput=()=>{const text=filter.value.toLowerCase();
for(const row of body.rows)row.hidden=!row.textContent.toLowerCase().includes(text)}}
"""
