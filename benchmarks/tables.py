"""Lines of results -> Markdown tables. Each says where its seconds come from."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.case import KEY, key_of
from benchmarks.methods import EARLIER, METHODS
from benchmarks.suites import BUDGETS

Row = dict[str, Any]
MIB = 2**20
COMPARED = ("compiled", "device", "torch")
HEAD = ("method", "budget", "device temp MiB", "of plain", "host MiB", "exposed")
NOTE = (
    "Exposed: copied bytes that no convolution or matrix product runs beside. Compile: "
    "seconds on the machine that compiled; of methods with a budget with planning."
)


def tables(rows: Sequence[Row]) -> str:
    """All tables that rows can fill: methods by workload, overhead, link."""
    rows = newest(rows)
    parts = [comparison(group) for group in groups(rows).values() if _is_shown(group)]
    parts += [profiles(group) for group in groups(rows, ("profile",)).values()]
    parts += [overhead([row for row in rows if row["backend"] == "overhead"])]
    parts += [link([row for row in rows if row["backend"] == "link"])]
    return "\n\n".join(part for part in parts if part)


def newest(rows: Iterable[Row]) -> list[Row]:
    """Return the last row of each measurement, in the order of the first ones."""
    whole = (row for row in rows if all(name in row for name in KEY))
    found = {(key_of(row), _program(row)): row for row in whole}
    return list(found.values())


def _program(row: Row) -> tuple[str, str]:
    """What sets timed rows of one case apart: further XLA options, and the commit."""
    if row["backend"] not in ("device", "torch", "profile"):
        return "", ""
    return " ".join(row.get("options", {})), row["environment"].get("commit", "")


def groups(
    rows: Iterable[Row], backends: Sequence[str] = COMPARED
) -> dict[tuple[Any, ...], list[Row]]:
    """Rows that can be compared: of one workload on one GPU, PyTorch's with JAX's."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["backend"] not in backends:
            continue
        is_compiled = row["backend"] == "compiled"
        key = (is_compiled, row["target"], row["workload"], row["card"], row["is_tiny"])
        found.setdefault((*key, _program(row)), []).append(row)
    return found


def _is_shown(rows: Sequence[Row]) -> bool:
    """Whether rows are a comparison; sizes that were searched for are not."""
    return len(rows) > 2 or any(row["suite"] != "papers" for row in rows)


def source(row: Row) -> str:
    """What a row's numbers are: compiled and simulated, or timed, and on what."""
    versions = row["environment"]
    jax = f"JAX {versions.get('jax', '?')}"
    if row["backend"] == "compiled":
        return f"compiled for {row['target']} by {jax}; seconds simulated, not timed"
    card = f", limited to {row['card']}" if row["card"] else ""
    driver = f", driver {versions['driver']}" if "driver" in versions else ""
    options, commit = _program(row)
    parts = [f"timed on {versions.get('device', 'a GPU')}{card}, {jax}{driver}"]
    parts += [f"jaxswap at {commit}"] * bool(commit)
    parts += [f"with {options}"] * bool(options)
    return ", ".join(parts)


def comparison(rows: Sequence[Row]) -> str:
    """Methods on one workload."""
    first = rows[0]
    is_timed = first["backend"] != "compiled"
    plain = next((row for row in rows if row["method"] == "plain"), {})
    head = [*HEAD, *(["peak MiB"] if is_timed else [])]
    head += ["step ms, timed" if is_timed else "step ms, simulated", "of plain"]
    ordered = sorted(rows, key=_rank)
    lines = [_cells(row, plain, is_timed) for row in ordered]
    title = f"### {first['workload']}{', tiny' if first['is_tiny'] else ''}"
    head.append("compile s")
    return "\n".join([f"{title}: {source(first)}", "", markdown(head, lines), "", NOTE])


def _rank(row: Row) -> tuple[int, int]:
    """Methods and budgets in their order; PyTorch, which has no place, last."""
    methods, budgets = list(METHODS), BUDGETS.get(row["method"], ())
    method, budget = EARLIER.get(row["method"], row["method"]), row["budget"]
    return (
        methods.index(method) if method in methods else len(methods),
        budgets.index(budget) if budget in budgets else len(budgets),
    )


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Lay out a table; a short line is filled up."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    full = [[*line, *[""] * (len(head) - len(line))] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *full])


def seconds_of(row: Row) -> float | None:
    """Seconds of a step: timed where it was, else simulated; `None` if it failed."""
    if "error" in row:
        return None
    timed = row["backend"] != "compiled"
    return row.get("median_seconds" if timed else "simulated_seconds")


def _cells(row: Row, plain: Row, is_timed: bool) -> list[str]:
    if "error" in row:
        smallest = row.get("smallest_bytes")
        least = f"; the least found is {_mib(smallest)} MiB" if smallest else ""
        return [row["method"], row["budget"], f"{row['error']}{least}"]
    temp, seconds = row.get("temp_bytes"), seconds_of(row)
    copied = row.get("copied_bytes")
    cells = [
        row["method"],
        row["budget"],
        _mib(temp),
        _ratio(temp, plain, "temp_bytes"),
    ]
    cells.append(_mib(row.get("host_bytes")) if row.get("host_bytes") else "")
    cells.append(f"{row['exposed_bytes'] / copied:.0%}" if copied else "")
    cells += [_mib(row.get("peak_bytes"))] if is_timed else []
    cells.append("" if seconds is None else f"{seconds * 1e3:,.2f}")
    cells.append(_of_plain(row, plain))
    spent = row.get("compile_seconds", row.get("planning_and_compile_seconds"))
    return [*cells, "" if spent is None else f"{spent:.0f}"]


def _of_plain(row: Row, plain: Row) -> str:
    """A step's seconds as a share of plain's, of the same process where it says so."""
    if "of_plain" in row:
        return f"{row['of_plain']:.2f}"
    seconds, base = seconds_of(row), seconds_of(plain) if plain else None
    return f"{seconds / base:.2f}" if seconds and base else ""


def _mib(nbytes: int | None) -> str:
    return "" if nbytes is None else f"{nbytes / MIB:,.0f}"


def _ratio(nbytes: int | None, plain: Row, field: str) -> str:
    whole = plain.get(field)
    return f"{nbytes / whole:.2f}" if nbytes is not None and whole else ""


def profiles(rows: Sequence[Row]) -> str:
    """Kernels and copies of a step, as the profiler saw them."""
    head = ["method", "budget", "kernels ms", "waiting ms", "idle ms"]
    head += [f"{name} {what}" for name in ("out", "in") for what in ("ms", "hidden")]
    lines = []
    for row in sorted(rows, key=_rank):
        cells = [row["method"], row["budget"]]
        if "error" in row:
            lines.append([*cells, row["error"]])
            continue
        times = [row.get(name) for name in ("compute_ms", "stall_ms", "idle_ms")]
        cells += ["" if time is None else f"{time:.1f}" for time in times]
        for name in ("swap_out", "swap_in"):
            copied, hidden = row[f"{name}_ms"], row[f"{name}_hidden_ms"]
            cells += [f"{copied:.1f}", f"{hidden / copied:.0%}" if copied else ""]
        lines.append(cells)
    title = f"### {rows[0]['workload']}, profiled: {source(rows[0])}"
    note = "Hidden: the part of the copies' time during which a kernel ran."
    return "\n".join([title, "", markdown(head, lines), "", note])


def overhead(rows: Sequence[Row]) -> str:
    """Processor seconds of tracing, planning and compiling."""
    if not rows:
        return ""
    head = ["workload", "method", "trace s", "of plain", "plan s", "compile s"]
    plain = {row["workload"]: row for row in rows if row["method"] == "plain"}
    lines = []
    for row in rows:
        if "error" in row:
            lines.append([row["workload"], row["method"], row["error"]])
            continue
        base = plain.get(row["workload"], {}).get("trace_seconds")
        planning = row.get("planning_seconds")
        lines.append(
            [
                row["workload"],
                row["method"],
                f"{row['trace_seconds']:.2f}",
                f"{row['trace_seconds'] / base:.1f}" if base else "",
                "" if planning is None else f"{planning:.1f}",
                f"{row['compile_seconds']:.1f}",
            ]
        )
    title = "### Tracing, planning (without compiles), compiling: processor seconds"
    return "\n".join([title, "", markdown(head, lines)])


def link(rows: Sequence[Row]) -> str:
    """Copy between device and pinned host memory."""
    copies = [row for row in rows if "bytes_per_second" in row]
    if not copies:
        return ""
    where = copies[0]["environment"].get("device", "a GPU")
    lines = [
        [
            row["workload"],
            row["method"],
            f"{row['bytes_per_second'] / 1e9:.1f}",
            f"{row['median_seconds'] * 1e3:.2f}",
            f"{row['min_seconds'] * 1e3:.2f} to {row['max_seconds'] * 1e3:.2f}",
        ]
        for row in copies
    ]
    head = ["array", "direction", "GB/s", "median ms", "spread ms"]
    return "\n".join([f"### Copies, timed on {where}", "", markdown(head, lines)])
