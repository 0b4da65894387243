"""Numbers and pictures for TensorBoard, written by the thread that has them.

TensorBoardX's `SummaryWriter` passes events to a thread of its own. So a process that
is killed loses the last events. It also names its file by the second. So a run that is
resumed at once overwrites its own file. The lower layer of TensorBoardX, which is used
here, does neither.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

# Their names are made at import, where type checkers do not see them.
_events: Any = event_pb2
_summaries: Any = summary_pb2

_FLUSH_SECONDS = 2.0  # Each flush waits for the disk.


class EventFile:
    """A new file of events in a folder of event files.

    Args:
        folder: The folder. It is made if it is missing.
        purge_step: From this step on, TensorBoard ignores what older files have. None
            keeps all of it.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(
            str(folder / "events"), f".{os.getpid()}.{purge_step or 0}"
        )
        self._flushed = 0.0
        if purge_step is not None:
            start = _events.SessionLog(status=_events.SessionLog.START)
            event = _events.Event(
                wall_time=time.time(), step=purge_step, session_log=start
            )
            self._writer.write_event(event)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars by tag. They are on disk at most two seconds later.

        Args:
            step: The step at which they are drawn.
            values: Numbers by tag, such as "train/loss".
        """
        scalars = [
            _summaries.Summary.Value(tag=tag, simple_value=x)
            for tag, x in values.items()
        ]
        self._add(step, scalars)

    def write_picture(self, step: int, tag: str, png: bytes) -> None:
        """Write a picture.

        Args:
            step: The step to which it belongs.
            tag: Its name.
            png: The bytes of a PNG.
        """
        width, height = struct.unpack(">II", png[16:24])  # In its first chunk.
        picture = _summaries.Summary.Image(
            height=height, width=width, colorspace=4, encoded_image_string=png
        )
        self._add(step, [_summaries.Summary.Value(tag=tag, image=picture)])

    def _add(self, step: int, values: list[Any]) -> None:
        summary = _summaries.Summary(value=values)
        self._writer.write_event(
            _events.Event(wall_time=time.time(), step=step, summary=summary)
        )
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Put everything on disk."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Put everything on disk and close the file."""
        self._writer.close()
