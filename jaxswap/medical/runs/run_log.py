"""The log of a training run: tables, TensorBoard files and a picture of its progress.

When a call returns, its row is in the table. So nothing is lost if the process is
killed. TensorBoard's files follow within two seconds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from jaxswap.medical.data.writing import whole_file
from jaxswap.medical.runs.event_file import EventFile

METRICS, VALIDATION = "metrics.csv", "validation.csv"
TENSORBOARD, PICTURE = "tensorboard", "progress.png"

_STEP, _LOSS = "step", "loss"


class LoggedRow(NamedTuple):
    """One row of a table.

    Attributes:
        step: Optimizer steps done.
        values: Numbers by name of the column.
    """

    step: int
    values: dict[str, float]


class History(NamedTuple):
    """What a run has logged, in the order of the steps.

    Attributes:
        metrics: A row for each step that was logged.
        validation: A row for each validation: Dice by region, and "loss" if known.
    """

    metrics: list[LoggedRow]
    validation: list[LoggedRow]


class RunLog:
    """Appends to the log of a run. As a context manager it draws at the end.

    It writes `metrics.csv`, `validation.csv`, `progress.png` and the folder
    `tensorboard`, but none of them before the first row.

    Args:
        folder: Folder of the run. It is made with the first row.
        resumed_step: For a resumed run: its rows after this step are removed, because
            they will come again. None for a new run.

    Raises:
        ValueError: If the folder holds a log but `resumed_step` is None, or if a table
            in it cannot be read.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with RunLog(folder) as log:
        ...     log.write(1, {"loss": 0.5})
        ...     log.write_validation(1, {"whole tumour": 0.75})
        >>> read_history(folder).metrics
        [LoggedRow(step=1, values={'loss': 0.5})]
    """

    def __init__(self, folder: str | Path, resumed_step: int | None = None) -> None:
        self._folder = Path(folder)
        self._resumed_step = resumed_step
        history = read_history(self._folder)
        if resumed_step is None and any(history):
            raise ValueError(
                f"{self._folder}: holds the log of another run; resume it, or choose "
                "another folder."
            )
        last = -1 if resumed_step is None else resumed_step
        self._metrics = _Table(self._folder / METRICS, history.metrics, last)
        self._validation = _Table(self._folder / VALIDATION, history.validation, last)
        self._events: EventFile | None = None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Log a training step.

        Args:
            step: Number of the step, larger than in the row before.
            values: Numbers, or arrays of one number, by name. "loss" is drawn.

        Raises:
            ValueError: If the step is not larger than the last, if a value is no
                number, or if a name is "step".
        """
        row = self._metrics.append(step, values)
        self._scalars("train", row)

    def write_validation(
        self, step: int, dice: Mapping[str, Any], loss: float | None = None
    ) -> None:
        """Log a validation and draw the progress.

        Args:
            step: Number of steps done.
            dice: Mean Dice by region. NaN if it is not defined.
            loss: Mean loss. None if it is not known.

        Raises:
            ValueError: As for `write`.
        """
        known = {} if loss is None else {_LOSS: loss}
        row = self._validation.append(step, {**dice, **known})
        self._scalars("dice", _dice(row))
        if loss is not None:
            self._scalars("validation", LoggedRow(step, {_LOSS: loss}))
        if self._events is not None:
            self._events.flush()
        self._draw()

    def write_picture(self, step: int, png: bytes) -> None:
        """Show a picture of a validation case in TensorBoard.

        Args:
            step: Number of steps done.
            png: The bytes of a PNG.
        """
        self._open_events().write_picture(step, "validation/first case", png)

    def close(self) -> None:
        """Draw the progress and close the files. Do nothing if no row was written."""
        self._metrics.close()
        self._validation.close()
        if self._events is not None:
            self._events.close()
            self._events = None
            self._draw()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _scalars(self, group: str, row: LoggedRow) -> None:
        values = {f"{group}/{name}": value for name, value in row.values.items()}
        self._open_events().write(row.step, values)

    def _open_events(self) -> EventFile:
        if self._events is None:
            resumed = self._resumed_step
            purge_step = None if resumed is None else resumed + 1
            self._events = EventFile(self._folder / TENSORBOARD, purge_step)
        return self._events

    def _draw(self) -> None:
        # Loads Matplotlib, which only the process that draws needs.
        from jaxswap.medical.runs.progress_plot import save_progress

        metrics, validation = self._metrics.rows, self._validation.rows
        save_progress(
            self._folder / PICTURE,
            [(step, values["loss"]) for step, values in metrics if "loss" in values],
            [(row.step, _dice(row).values) for row in validation],
            [(step, v[_LOSS]) for step, v in validation if _LOSS in v],
        )


def read_history(folder: str | Path) -> History:
    """Read what a run has logged.

    Args:
        folder: Folder of the run.

    Returns:
        The rows. Empty if there is no table. A last row that a crash cut short is left
        out.

    Raises:
        ValueError: If a file is no such table.
    """
    folder = Path(folder)
    return History(_read(folder / METRICS), _read(folder / VALIDATION))


def _dice(row: LoggedRow) -> LoggedRow:
    """Return a row of a validation without the loss."""
    values = {name: value for name, value in row.values.items() if name != _LOSS}
    return LoggedRow(row.step, values)


class _Table:
    """A CSV file that grows by rows.

    Attributes:
        rows: All rows so far.
    """

    def __init__(self, path: Path, rows: Iterable[LoggedRow], last: int) -> None:
        self._path = path
        self.rows = [row for row in rows if row.step <= last]
        self._columns: list[str] = []
        self._file: io.TextIOWrapper | None = None

    def append(self, step: int, values: Mapping[str, Any]) -> LoggedRow:
        row = LoggedRow(
            int(step), {name: _number(name, x) for name, x in values.items()}
        )
        if self.rows and row.step <= self.rows[-1].step:
            raise ValueError(
                f"`step` is {step}, but {self._path.name} has a row of step "
                f"{self.rows[-1].step} already."
            )
        self.rows.append(row)
        if self._file is None or not row.values.keys() <= set(self._columns):
            self._rewrite()
        else:
            self._file.write(self._lines([row]))
            self._file.flush()
        return row

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rewrite(self) -> None:
        """Write all rows, without removed ones and with new columns."""
        self.close()
        names = (name for row in self.rows for name in row.values)
        self._columns = list(dict.fromkeys(names))
        with whole_file(self._path) as temporary:
            header = _csv([[_STEP, *self._columns]])
            text = header + self._lines(self.rows)
            temporary.write_text(text, encoding="utf-8", newline="\n")
        self._file = self._path.open("a", newline="", encoding="utf-8")

    def _lines(self, rows: Iterable[LoggedRow]) -> str:
        return _csv(
            [row.step, *(row.values.get(name, "") for name in self._columns)]
            for row in rows
        )


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _number(name: str, value: Any) -> float:
    if name == _STEP:
        raise ValueError(f"a column cannot be named {_STEP!r}.")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` is {value!r}, which is not a number.") from error


def _read(path: Path) -> list[LoggedRow]:
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        header, *lines = csv.reader(io.StringIO(whole)) if whole else [[]]
        if not header:
            raise ValueError("it has no columns")
        if header[0] != _STEP:
            raise ValueError(f"its first column is {header[0]!r}")
        return [_row(header, line) for line in lines]
    except (ValueError, IndexError, csv.Error) as error:
        raise ValueError(f"{path}: is no table of a run: {error}.") from error


def _row(header: list[str], line: list[str]) -> LoggedRow:
    cells = zip(header[1:], line[1:], strict=True)
    return LoggedRow(int(line[0]), {name: float(text) for name, text in cells if text})
