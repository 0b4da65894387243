import math
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard_records import event_files, scalars

from jaxswap.medical.runs.run_log import LoggedRow, RunLog, read_history


def test_rows_come_back_exactly(tmp_path: Path) -> None:
    loss = 0.1 + 0.2
    with RunLog(tmp_path) as log:
        log.write(1, {"loss": loss, "gradient_norm": jnp.float32(2.5)})
        log.write(3, {"loss": float("nan"), "gradient_norm": np.float64(1e-30)})
        log.write_validation(3, {"whole tumour": 0.5, "core, enhancing": 0.25})
    history = read_history(tmp_path)
    assert history.metrics[0] == LoggedRow(1, {"loss": loss, "gradient_norm": 2.5})
    assert history.metrics[1].values["gradient_norm"] == 1e-30
    assert math.isnan(history.metrics[1].values["loss"])
    assert history.validation == [
        LoggedRow(3, {"whole tumour": 0.5, "core, enhancing": 0.25})
    ]


def test_nothing_is_written_before_the_first_row(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()
    assert read_history(tmp_path / "run") == ([], [])


def test_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for step in (1, 2):
        log.write(step, {"loss": 1.0 / step})
        assert [row.step for row in read_history(tmp_path).metrics][-1] == step
    log.close()


def test_resuming_drops_what_comes_again(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for step in range(1, 6):
            log.write(step, {"loss": float(step)})
            if step % 2 == 0:
                log.write_validation(step, {"core": step / 10})
    with RunLog(tmp_path, resumed_step=3) as log:
        # Not before there is something to put in their place.
        assert len(read_history(tmp_path).metrics) == 5
        log.write(4, {"loss": 40.0})
        log.write_validation(4, {"core": 0.9})
    history = read_history(tmp_path)
    assert [(row.step, row.values["loss"]) for row in history.metrics] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 40.0),
    ]
    assert [(row.step, row.values["core"]) for row in history.validation] == [
        (2, 0.2),
        (4, 0.9),
    ]
    first, second = event_files(tmp_path / "tensorboard")
    assert len(first) > len(second)
    # TensorBoard is told to forget what it had from step 4 on.
    assert [e.step for e in second if e.HasField("session_log")] == [4]
    assert scalars(second) == [
        ("train/loss", 4, 40.0),
        ("dice/core", 4, np.float32(0.9)),
    ]


def test_another_run_s_log_is_not_overwritten(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write(1, {"loss": 1.0})
    with pytest.raises(ValueError, match="holds the log of another run; resume it"):
        RunLog(tmp_path)


def test_a_new_column_gets_a_place(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write(1, {"loss": 1.0})
        log.write(2, {"loss": 0.5, "learning_rate": 0.1})
        log.write(3, {"learning_rate": 0.2})
    assert [row.values for row in read_history(tmp_path).metrics] == [
        {"loss": 1.0},
        {"loss": 0.5, "learning_rate": 0.1},
        {"learning_rate": 0.2},
    ]


def test_a_row_cut_short_is_left_out_and_then_gone(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for step in (1, 2):
            log.write(step, {"loss": 0.25})
    table = tmp_path / "metrics.csv"
    table.write_text(table.read_text() + "3,0.1")
    assert [row.step for row in read_history(tmp_path).metrics] == [1, 2]
    with RunLog(tmp_path, resumed_step=2) as log:
        log.write(3, {"loss": 0.5})
    assert table.read_text() == "step,loss\n1,0.25\n2,0.25\n3,0.5\n"


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "step,loss\nx,1\n", "step,a\n1\n"])
def test_a_file_that_is_no_table_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(ValueError, match=r"metrics.csv: is no table of a run"):
        read_history(tmp_path)


def test_rows_that_do_not_fit_are_refused_and_not_written(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write(2, {"loss": 1.0})
        with pytest.raises(ValueError, match=r"`step` is 2, but metrics.csv has a row"):
            log.write(2, {"loss": 1.0})
        with pytest.raises(ValueError, match="`loss` is 'low', which is not a number"):
            log.write(3, {"loss": "low"})
        with pytest.raises(ValueError, match="cannot be named 'step'"):
            log.write(3, {"step": 3.0})
    assert len(read_history(tmp_path).metrics) == 1


def test_interrupting_leaves_everything_and_a_picture(tmp_path: Path) -> None:
    def train() -> None:
        with RunLog(tmp_path) as log:
            log.write(1, {"loss": 1.0})
            raise KeyboardInterrupt("by hand")

    with pytest.raises(KeyboardInterrupt):
        train()
    assert len(read_history(tmp_path).metrics) == 1
    assert (tmp_path / "progress.png").read_bytes().startswith(b"\x89PNG")


def test_a_validation_draws(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write_validation(0, {"core": float("nan")})
    first = (tmp_path / "progress.png").read_bytes()
    log.write(1, {"loss": 1.0})
    assert (tmp_path / "progress.png").read_bytes() == first
    log.write_validation(1, {"core": 0.5})
    assert (tmp_path / "progress.png").read_bytes() != first
    log.close()


LOG_FOR_EVER = """
import itertools, sys
from jaxswap.medical.runs.run_log import RunLog

log = RunLog(sys.argv[1])
for step in itertools.count(1):
    log.write(step, {"loss": 1 / step})
    print(step, flush=True)
"""


def test_killed_keeps_every_row_that_was_written(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOG_FOR_EVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(20):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    told = [20, *(int(line) for line in process.stdout.read().splitlines())]
    process.wait()
    process.stdout.close()
    steps = [row.step for row in read_history(tmp_path).metrics]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= told[-1]
