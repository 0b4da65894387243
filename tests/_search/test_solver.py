"""The solver works, and nothing that it prints reaches the standard output."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from jaxswap._search.solver import solve_rows

ROOT = Path(__file__).parent.parent.parent
TALKATIVE = """
    import ctypes, os, sys, threading, time
    import numpy as np
    import scipy.optimize
    from jaxswap._search.solver import solve_rows

    library = ctypes.CDLL(None)
    real = scipy.optimize.milp

    def talkative(*args, **options):
        library.printf(b"HighsMipSolverData::run();\\n")
        library.puts(b"a stray line")
        library.fflush(None)
        started.wait(20)
        library.puts(b"another one")
        {more}
        return real(*args, **options)

    scipy.optimize.milp = talkative
    started = threading.Barrier({threads} + 1)

    def solve():
        solve_rows(np.ones(1), np.ones((1, 1)), np.ones(1), np.ones(1))

    threads = [threading.Thread(target=solve) for _ in range({threads})]
    library.puts(b"C, before")
    for thread in threads:
        thread.start()
    print("Python, meanwhile", flush=True)
    os.write(1, b"the descriptor, meanwhile\\n")
    started.wait(20)
    for thread in threads:
        thread.join()
    library.puts(b"C, after")
    library.fflush(None)
"""


def output(threads: int = 1, more: str = "pass") -> set[str]:
    """The lines that a process writes to file descriptor 1 while it solves."""
    program = textwrap.dedent(TALKATIVE).format(threads=threads, more=more)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines())


OWN = {"C, before", "Python, meanwhile", "the descriptor, meanwhile", "C, after"}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_solver_prints_nothing_and_all_else_arrives(threads: int) -> None:
    assert output(threads) == OWN


def test_a_line_that_is_printed_would_be_seen() -> None:
    assert output(more="print('here')") == {*OWN, "here"}


def test_the_output_is_given_back_after_an_error() -> None:
    program = """
        import ctypes
        import numpy as np
        from jaxswap._search.solver import solve_rows
        try:
            solve_rows(np.ones(1), np.ones((1, 2)), np.ones(1), np.ones(1))
        except ValueError:
            ctypes.CDLL(None).puts(b"caught")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "caught\n"


def test_integers_are_found() -> None:
    given = (np.array([-1.0]), np.array([[2.0]]), np.array([3.0]), np.array([5.0]))
    assert solve_rows(*given).x == pytest.approx([1.5])
    assert solve_rows(*given, integrality=np.ones(1)).x == pytest.approx([1.0])


@pytest.mark.parametrize("is_silent", [True, False])
def test_the_log_of_the_solver_itself_is_not_seen(is_silent: bool) -> None:
    """HiGHS is asked for its log here; that it would be seen is tried too."""
    program = f"""
        import contextlib
        import numpy as np
        from jaxswap._search import solver
        if not {is_silent}:
            solver._silence = contextlib.nullcontext()
        one = np.ones(1)
        options = {{"disp": True}}
        solver.solve_rows(-one, np.ones((1, 1)), one, one, integrality=one,
                          options=options)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert bool(done.stdout) is not is_silent
