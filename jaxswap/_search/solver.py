"""SciPy's solver of mixed-integer linear models, without its words.

HiGHS has lines in it that it prints to C's `stdout` whatever its options say, such as
`HighsMipSolverData::transformNewIntegerFeasibleSolution tmpSolver.run();`. They would
end up in what the caller writes. While it runs, C's `stdout` is the null device: a
variable of the C library, which Python's `sys.stdout` and the file descriptor 1 have no
part in. So what other threads write with Python arrives, and notebooks are not touched.
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
        limits: What the rows may come to.
        upper: Largest value of each variable.
        integrality: 1 for each variable that has to be an integer.
        options: Of `scipy.optimize.milp`.

    Returns:
        The result of `scipy.optimize.milp`.
    """
    # Imported here, for SciPy's optimizers take as long to load as all of jaxswap.
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
    """Points C's `stdout` to the null device while any thread is within."""

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
    """C's variable `stdout`, and a stream that goes nowhere.

    None where the variable cannot be set: other C libraries than those of Linux (glibc)
    and macOS do not say that it can.
    """
    is_macos = sys.platform == "darwin"
    if not is_macos and platform.libc_ver()[0] != "glibc":
        return None, None
    library = ctypes.CDLL(None)
    name = "__stdoutp" if is_macos else "stdout"
    library.fopen.restype = ctypes.c_void_p
    null = library.fopen(os.devnull.encode(), b"w")
    return (ctypes.c_void_p.in_dll(library, name), null) if null else (None, None)
