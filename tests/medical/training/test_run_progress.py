"""What is seen of a run, in a terminal of any width and in a log."""

import io
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from jaxswap.medical.training.run_progress import RunProgress


def shown(width: int, steps: int = 1200, *, is_terminal: bool = True) -> list[str]:
    """Advance to step 120. Return the lines."""
    text = io.StringIO()
    console = Console(
        file=text, width=width, force_terminal=is_terminal, color_system=None
    )
    with RunProgress(console) as progress:
        progress.start(0, steps)
        for step in range(1, 121):
            progress.advance(step, -0.51234, 1.5e6)
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text.getvalue())
    return [line.rstrip() for line in plain.splitlines() if line.strip()]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_narrow_terminal_keeps_the_count_of_steps_and_the_time_left(
    width: int,
) -> None:
    last = shown(width)[-1]
    assert re.search(r"training .*120/1200 \S:\S\S:\S\S left ", last)
    assert len(last) <= width
    assert ("1.50 Mvoxel/s" in last) == (width >= 80)


def test_a_log_gets_a_line_now_and_then() -> None:
    lines = shown(80, is_terminal=False)
    assert len(lines) == 11  # The first, and each twelfth of 1200.
    assert lines[0].startswith("training 1/1200  ")
    told = r"training 120/1200  \d+:\d\d:\d\d left  loss -0.5123  1.50 Mvoxel/s"
    assert re.fullmatch(told, lines[-1])


def test_names_on_a_terminal_are_text() -> None:
    name = "[/red] [v2] <b>&amp;</b> 100 %s $x$"
    text = io.StringIO()
    with RunProgress(Console(file=text, width=80, force_terminal=True)) as progress:
        progress.count("preparing cases", 1)
        progress.line(f"{name}: a case")
        progress.advance_one()
    assert f"{name}: a case" in text.getvalue()


def test_a_slow_rate_has_digits() -> None:
    text = io.StringIO()
    with RunProgress(Console(file=text, width=80)) as progress:
        progress.start(0, 9)
        progress.advance(1, 0.5, 8712.0)
    assert "loss 0.5000  8.71 kvoxel/s" in text.getvalue()


def test_cases_that_are_prepared_are_counted_in_a_log() -> None:
    text = io.StringIO()
    with RunProgress(Console(file=text, width=80)) as progress:
        progress.count("preparing cases", 2)
        progress.advance_one()
        progress.advance_one()
    lines = text.getvalue().splitlines()
    assert [line[:19] for line in lines] == [f"preparing cases {n}/2" for n in (1, 2)]


def test_counts_of_threads_are_logged_in_order() -> None:
    class Slow(io.StringIO):
        def write(self, line: str) -> int:
            time.sleep(0)  # Another thread may go on here.
            return super().write(line)

    text = Slow()
    with RunProgress(Console(file=text, width=80)) as progress:
        progress.count("preparing cases", 90)
        with ThreadPoolExecutor(8) as pool:
            for _ in range(90):
                pool.submit(progress.advance_one)
    counts = [
        int(line.split()[2].split("/")[0]) for line in text.getvalue().splitlines()
    ]
    assert counts == list(range(1, 91))


def test_a_path_is_not_broken_and_a_column_goes_on() -> None:
    text = io.StringIO()
    progress = RunProgress(Console(file=text, width=40))
    path = "/" + "long/" * 20
    progress.line(f"Go on with: --out {path} --resume")
    assert path in text.getvalue()
    text.seek(0)
    text.truncate()
    progress.line("  host memory    one two three four five six seven")
    assert text.getvalue().splitlines() == [
        "  host memory    one two three four five",
        "                 six seven",
    ]
