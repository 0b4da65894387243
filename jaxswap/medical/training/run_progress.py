"""What the user of a training run sees while it runs."""

from __future__ import annotations

import re
import textwrap
import threading
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

_MIB, _GIB = 2**20, 2**30
_SPEED_SECONDS = 600.0  # Steps so far apart still tell how long the rest takes.
_LINES = 100
_COLUMN = re.compile(r" +(\S+( \S+)*  +)?")  # An indent, perhaps a title and a gap.


class _Status(ProgressColumn):
    """What is cut off when the terminal is too narrow for all."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["status"], no_wrap=True, overflow="ellipsis")


class RunProgress:
    """A bar with loss, speed, memory and time left, and lines for events.

    Where the output is no terminal, such as the log of a job, there is no bar. There,
    a line is written for about every hundredth part.

    Args:
        console: Where it is drawn.
    """

    def __init__(self, console: Console) -> None:
        whole = Column(no_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(table_column=whole),
            TimeRemainingColumn(table_column=whole),
            TextColumn("left"),
            _Status(),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=_SPEED_SECONDS,
        )
        self._task = self._bar.add_task("training", total=None, status="", start=False)
        self._memory = ""
        self._one_by_one = threading.Lock()

    def __enter__(self) -> RunProgress:
        """Start to draw."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    def count(self, what: str, total: int) -> None:
        """Count something else than steps from now on."""
        self._bar.reset(self._task, total=total, description=what, status="")

    def advance_one(self) -> None:
        """Add one to what `count` counts. Threads may call this side by side."""
        with self._one_by_one:  # Lines of a log come in the order of their counts.
            self._bar.advance(self._task)
            self._log()

    def start(self, done: int, steps: int) -> None:
        """Count steps from now on."""
        self._bar.reset(
            self._task, total=steps, description="training", status="first step"
        )
        self._bar.update(self._task, completed=done)

    def say(self, what: str) -> None:
        """Show an activity that takes a while."""
        self._bar.update(self._task, status=what)

    def line(self, text: str) -> None:
        """Print a line above the bar. A long word, such as a path, is not broken."""
        width = self._bar.console.width
        lines = [_wrapped(line, width) for line in text.splitlines()]
        self._print("\n".join(lines))

    def show_memory(self, analysis: Any) -> None:
        """Show the memory of the compiled step.

        Args:
            analysis: Its `memory_analysis()`, or None if the device has none.
        """
        if analysis is None:
            return
        device = (
            analysis.argument_size_in_bytes
            + analysis.output_size_in_bytes
            + analysis.temp_size_in_bytes
            - analysis.alias_size_in_bytes
        )
        host = analysis.host_temp_size_in_bytes + analysis.host_argument_size_in_bytes
        self._memory = f"device {bytes_text(device)}, host {bytes_text(host)}"
        self.line(f"The compiled step needs {self._memory}.")

    def advance(self, step: int, loss: float, voxels_per_second: float) -> None:
        """Add one step."""
        status = f"loss {loss:.4f}  {_rate(voxels_per_second)}"
        if self._memory:
            status += f"  {self._memory}"
        self._bar.update(self._task, completed=step, status=status)
        self._log()

    def validated(
        self, step: int, scores: dict[str, float], loss: float | None
    ) -> None:
        """Print the Dice of each region, and the loss if it is known."""
        told = ", ".join(f"{region} {dice:.3f}" for region, dice in scores.items())
        lost = "" if loss is None else f"; loss {loss:.4f}"
        self.line(f"step {step}: Dice {told}{lost}")

    def _log(self) -> None:
        """Write a line where no bar is drawn, if it is time for one."""
        task = self._bar.tasks[0]
        done, total = int(task.completed), int(task.total or 0)
        is_due = done % max(1, total // _LINES) == 0 or done in (1, total)
        if self._bar.console.is_terminal or not is_due:
            return
        left = task.time_remaining
        told = "" if left is None else f"  {timedelta(seconds=int(left))} left"
        line = f"{task.description} {done}/{total}{told}  {task.fields['status']}"
        # A line of a log is not broken.
        self._print(line.rstrip())

    def _print(self, text: str) -> None:
        # Brackets in the name of a label or a folder are no markup.
        console = self._bar.console
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _wrapped(line: str, width: int) -> str:
    """Break a line between words. It goes on in the column of its text."""
    column = _COLUMN.match(line)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * (len(column[0]) if column else 0),
        break_long_words=False,
        break_on_hyphens=False,
    )


def bytes_text(count_bytes: int) -> str:
    """Write bytes in MiB or GiB."""
    if count_bytes >= _GIB:
        return f"{count_bytes / _GIB:.2f} GiB"
    return f"{count_bytes / _MIB:.0f} MiB"


def _rate(voxels_per_second: float) -> str:
    """Write a rate so that a slow processor has digits, too."""
    if voxels_per_second < 1e5:
        return f"{voxels_per_second / 1e3:.2f} kvoxel/s"
    return f"{voxels_per_second / 1e6:.2f} Mvoxel/s"
