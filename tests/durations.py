"""How long each test takes: `pytest --durations-file FILE` writes it.

Seconds of the clock depend on what else the machine does, those of its processors
hardly: who makes tests faster compares these. What a fork server starts (see
`forked_commands`) is in the clock's seconds alone.
"""

import collections
import pathlib
import resource
import time

import pytest

SHOWN = 30
"""How many of the slowest tests are shown."""


def processor_seconds() -> float:
    """Seconds that processors worked for this process and its children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Durations:
    """Adds up the phases of each test and writes the slowest tests first."""

    def __init__(self, path: pathlib.Path | None) -> None:
        self.path = path
        self.before = 0.0
        self.clock = collections.defaultdict[str, float](float)
        self.processors = collections.defaultdict[str, float](float)

    def pytest_runtest_logstart(self) -> None:
        """Begin to count."""
        self.before = processor_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self):
        """Note in a phase's report, which goes to the main process, what it took."""
        report = yield
        now = processor_seconds()
        report.processor_seconds = now - self.before
        self.before = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase."""
        self.clock[report.nodeid] += report.duration
        self.processors[report.nodeid] += getattr(report, "processor_seconds", 0.0)

    def pytest_sessionfinish(self) -> None:
        """Write the table."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(self.lines()) + "\n", encoding="utf-8")

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Show the slowest; the line that pytest closes with comes after them."""
        if self.path is not None:
            terminalreporter.section(f"slowest tests, all in {self.path}")
            for line in self.lines()[: SHOWN + 1]:
                terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        """A line for each test, the slowest first."""
        found = ["processors\tclock\ttest"]
        for test in sorted(self.clock, key=self.processors.__getitem__, reverse=True):
            seconds = f"{self.processors[test]:.3f}\t{self.clock[test]:.3f}"
            found.append(f"{seconds}\t{test}")
        return found
