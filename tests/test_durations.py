"""The table of how long each test took."""

import pathlib

import durations
import pytest

pytest_plugins = ["pytester"]

TESTS = """
import subprocess, sys, time

BUSY = '''
end = time.process_time() + 0.2
while time.process_time() < end:
    pass
'''

def test_idle():
    time.sleep(0.3)

def test_busy():
    exec(BUSY)

def test_busy_in_another_process():
    subprocess.run([sys.executable, "-c", f"import time {BUSY} {BUSY}"], check=True)
"""


def table(pytester: pytest.Pytester) -> list[list[str]]:
    path = pathlib.Path("of", "folders", "durations.tsv")
    pytester.makepyfile(TESTS)
    pytester.inline_run(plugins=[durations.Durations(path)])
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_tests_that_keep_processors_busy_come_first(pytester: pytest.Pytester) -> None:
    head, *rows = table(pytester)
    assert head == ["processors", "clock", "test"]
    names = [name.rpartition("::")[2] for *_, name in rows]
    assert names == ["test_busy_in_another_process", "test_busy", "test_idle"]
    processors = [float(row[0]) for row in rows]
    clock = [float(row[1]) for row in rows]
    assert processors[0] >= 0.4
    assert 0.2 <= processors[1] < processors[0]
    assert processors[2] < 0.2
    assert clock[2] >= 0.3
