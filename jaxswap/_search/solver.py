"""HiGHS, a solver of mixed-integer linear models, without its output.

HiGHS prints some lines to C's `stdout` whatever its options say, such as its version.
They would appear in the caller's output. So C's variable `stdout` points to the null
device while HiGHS runs. Python's `sys.stdout` and the file descriptor 1 do not use this
variable. So notebooks, and other threads that write with Python, are not affected.

`highspy` is what the authors of HiGHS publish. SciPy has HiGHS, too, but its optimizers
take as long to load as all of jaxswap.
"""

import ctypes
import dataclasses
import functools
import os
import platform
import sys
import threading
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Matrix:
    """A sparse matrix, row by row.

    Attributes:
        starts: Where each row begins among the entries, and where the last one ends.
        columns: The column of each entry, in increasing order within a row.
        factors: Each entry.
    """

    starts: np.ndarray
    columns: np.ndarray
    factors: np.ndarray

    @classmethod
    def of(
        cls, starts: Sequence[int], columns: Sequence[int], factors: Sequence[float]
    ) -> "Matrix":
        """Return the matrix of such vectors. Entries at the same place are added up."""
        width = max(columns, default=0) + 1
        every = _rows_of(starts) * width + columns
        places, entry = np.unique(every, return_inverse=True)
        return cls(
            np.searchsorted(places, width * np.arange(len(starts))).astype(np.int32),
            (places % width).astype(np.int32),
            np.bincount(entry, factors, len(places)),
        )

    def product(self, x: np.ndarray, first: int) -> np.ndarray:
        """Return the rows from `first` on, times a vector."""
        rows, count = _rows_of(self.starts), len(self.starts) - 1
        return np.bincount(rows, self.factors * x[self.columns], count)[first:]


def _rows_of(starts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the row of each entry."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """The best solution that was found.

    Attributes:
        x: The variables.
        cost: What was minimized.
    """

    x: np.ndarray
    cost: float


def solve_rows(
    objective: np.ndarray,
    matrix: Matrix,
    limits: np.ndarray,
    upper: np.ndarray,
    *,
    integrality: np.ndarray | None = None,
    options: Mapping[str, float] | None = None,
) -> Solution | None:
    """Minimize `objective @ x` where `matrix @ x <= limits` and `0 <= x <= upper`.

    Args:
        objective: Cost of each variable.
        matrix: One row for each limit.
        limits: The largest value of each row.
        upper: Largest value of each variable.
        integrality: 1 for each variable that has to be an integer.
        options: Options of HiGHS.

    Returns:
        The solution. `None` if the end came before there was one.

    Raises:
        ValueError: If HiGHS does not take the model.
    """
    # Imported here: nothing but a search needs it.
    import highspy

    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(objective), len(limits)
    model.col_cost_, model.col_upper_ = objective, upper
    model.col_lower_ = np.zeros(len(objective))
    model.row_lower_, model.row_upper_ = np.full(len(limits), -np.inf), limits
    rows = model.a_matrix_
    rows.format_ = highspy.MatrixFormat.kRowwise
    rows.start_, rows.index_ = matrix.starts, matrix.columns
    rows.value_ = matrix.factors
    if integrality is not None:
        kinds = highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger
        model.integrality_ = [kinds[int(kind)] for kind in integrality]
    with _silence:
        solver = highspy.Highs()
        for name, value in {"output_flag": False, **(options or {})}.items():
            solver.setOptionValue(name, value)
        if solver.passModel(model) == highspy.HighsStatus.kError:
            raise ValueError("HiGHS does not take the model: its vectors do not match.")
        solver.run()
    found = solver.getInfo()
    if found.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    values = np.array(solver.getSolution().col_value)
    return Solution(values, found.objective_function_value)


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
