"""How long each test takes: `pytest --durations-file FILE` writes it.

Seconds of the clock depend on what else the machine does, those of its processors
hardly: who makes tests faster compares these.
"""

import collections
import pathlib
import resource
import time

import pytest


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
        lines = ["processors\tclock\ttest"]
        for test in sorted(self.clock, key=self.processors.__getitem__, reverse=True):
            seconds = f"{self.processors[test]:.3f}\t{self.clock[test]:.3f}"
            lines.append(f"{seconds}\t{test}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
