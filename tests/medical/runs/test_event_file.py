import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from tensorboard_records import event_files, scalars

from jaxswap.medical.runs import event_file
from jaxswap.medical.runs.event_file import EventFile


def test_scalars_are_what_tensorboard_reads(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "new")
    file.write(1, {"train/loss": 0.5, "train/rate": float("inf")})
    file.write(2, {"train/loss": 0.25})
    file.close()
    (events,) = event_files(tmp_path / "new")
    assert events[0].file_version == "brain.Event:2"
    assert scalars(events) == [
        ("train/loss", 1, 0.5),
        ("train/rate", 1, float("inf")),
        ("train/loss", 2, 0.25),
    ]
    assert not any(event.HasField("session_log") for event in events)


def test_a_resumed_run_has_a_file_of_its_own(tmp_path: Path) -> None:
    for purge_step in (None, 3):
        file = EventFile(tmp_path, purge_step)
        file.write(3, {"loss": 0.5})
        file.close()
    first, second = event_files(tmp_path)
    assert scalars(first) == scalars(second)
    assert [e.step for e in second if e.HasField("session_log")] == [3]


def test_events_do_not_wait_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_file, "_FLUSH_SECONDS", 0.0)
    file = EventFile(tmp_path)
    file.write(1, {"loss": 0.5})
    assert scalars(event_files(tmp_path)[0]) == [("loss", 1, 0.5)]
    file.close()


def test_a_picture_is_what_tensorboard_reads(tmp_path: Path) -> None:
    written = io.BytesIO()
    matplotlib.image.imsave(written, np.zeros((3, 5, 3)), format="png")
    file = EventFile(tmp_path)
    file.write_picture(7, "validation/case", written.getvalue())
    file.close()
    (event,) = [e for e in event_files(tmp_path)[0] if e.HasField("summary")]
    (value,) = event.summary.value
    assert (event.step, value.tag) == (7, "validation/case")
    assert (value.image.width, value.image.height) == (5, 3)
    assert value.image.encoded_image_string == written.getvalue()
