"""The solver works, and nothing that it prints reaches the standard output."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from jaxswap._search.solver import Matrix, solve_rows

ROOT = Path(__file__).parent.parent.parent
TALKATIVE = """
    import ctypes, os, sys, threading, time
    import numpy as np
    import highspy
    from jaxswap._search.solver import Matrix, solve_rows

    library = ctypes.CDLL(None)
    real = highspy.Highs.run

    def talkative(solver):
        library.printf(b"HighsMipSolverData::run();\\n")
        library.puts(b"a stray line")
        library.fflush(None)
        started.wait(20)
        library.puts(b"another one")
        {more}
        return real(solver)

    highspy.Highs.run = talkative
    started = threading.Barrier({threads} + 1)

    def solve():
        solve_rows(np.ones(1), Matrix.of([0, 1], [0], [1]), np.ones(1), np.ones(1))

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
        from jaxswap._search.solver import Matrix, solve_rows
        try:
            solve_rows(np.ones(1), Matrix.of([0, 1], [7], [1]), np.ones(1), np.ones(1))
        except ValueError:
            ctypes.CDLL(None).puts(b"caught")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "caught\n"


def test_integers_are_found() -> None:
    row = Matrix.of([0, 1], [0], [2.0])
    given = (np.array([-1.0]), row, np.array([3.0]), np.array([5.0]))
    fraction, whole = solve_rows(*given), solve_rows(*given, integrality=np.ones(1))
    assert fraction is not None
    assert whole is not None
    assert (fraction.x, fraction.cost) == (pytest.approx([1.5]), pytest.approx(-1.5))
    assert (whole.x, whole.cost) == (pytest.approx([1.0]), pytest.approx(-1.0))


def test_a_solution_that_was_not_found_is_none() -> None:
    row = Matrix.of([0, 1], [0], [1.0])
    assert solve_rows(np.ones(1), row, -np.ones(1), np.ones(1)) is None


def test_entries_at_the_same_place_are_added_up() -> None:
    matrix = Matrix.of([0, 3, 3, 4], [2, 0, 2, 1], [1.0, 2.0, 3.0, 5.0])
    assert matrix.starts.tolist() == [0, 2, 2, 3]
    assert matrix.columns.tolist() == [0, 2, 1]
    assert matrix.factors.tolist() == [2.0, 4.0, 5.0]
    x = np.array([1.0, 10.0, 100.0])
    assert matrix.product(x, 0).tolist() == [402.0, 0.0, 50.0]
    assert matrix.product(x, 2).tolist() == [50.0]


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
        row = solver.Matrix.of([0, 1], [0], [1.0])
        options = {{"output_flag": True}}
        solver.solve_rows(-one, row, one, one, integrality=one, options=options)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert bool(done.stdout) is not is_silent
