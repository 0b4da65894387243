"""SciPy's solver of mixed-integer linear models, without its output.

HiGHS prints some lines to C's `stdout` whatever its options say, such as
`HighsMipSolverData::transformNewIntegerFeasibleSolution tmpSolver.run();`. They would
appear in the caller's output. So C's variable `stdout` points to the null device while
HiGHS runs. Python's `sys.stdout` and the file descriptor 1 do not use this variable. So
notebooks, and other threads that write with Python, are not affected.
"""

import ctypes
import functools
import os
import platform
import sys
import threading
from typing import Any

import numpy as np


def solve_rows(
    objective: np.ndarray,
    matrix: Any,
    limits: np.ndarray,
    upper: np.ndarray,
    *,
    integrality: np.ndarray | None = None,
    options: dict[str, float] | None = None,
) -> Any:
    """Minimize `objective @ x` where `matrix @ x <= limits` and `0 <= x <= upper`.

    Args:
        objective: Cost of each variable.
        matrix: One row for each limit.
        limits: The largest value of each row.
        upper: Largest value of each variable.
        integrality: 1 for each variable that has to be an integer.
        options: The options of `scipy.optimize.milp`.

    Returns:
        The result of `scipy.optimize.milp`.
    """
    # Imported here, because SciPy's optimizers take as long to load as all of jaxswap.
    from scipy.optimize import Bounds, LinearConstraint, milp

    most: Any = limits
    largest: Any = upper
    with _silence:
        return milp(
            objective,
            constraints=LinearConstraint(matrix, -np.inf, most),
            integrality=integrality,
            bounds=Bounds(0, largest),
            options=options,
        )


class _Silence:
    """Points C's `stdout` to the null device while any thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._usual: int | None = None

    def __enter__(self) -> None:
        stdout, null = _streams()
        with self._lock:
            if stdout is not None and self._threads == 0:
                self._usual, stdout.value = stdout.value, null
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        stdout, _null = _streams()
        with self._lock:
            self._threads -= 1
            if stdout is not None and self._threads == 0:
                stdout.value = self._usual


_silence = _Silence()


@functools.cache
def _streams() -> tuple[ctypes.c_void_p | None, int | None]:
    """Return C's variable `stdout`, and a stream that discards its input.

    Both are None if the variable cannot be set. Only the C libraries of Linux (glibc)
    and macOS document that it can.
    """
    is_macos = sys.platform == "darwin"
    if not is_macos and platform.libc_ver()[0] != "glibc":
        return None, None
    library = ctypes.CDLL(None)
    name = "__stdoutp" if is_macos else "stdout"
    library.fopen.restype = ctypes.c_void_p
    null = library.fopen(os.devnull.encode(), b"w")
    return (ctypes.c_void_p.in_dll(library, name), null) if null else (None, None)
