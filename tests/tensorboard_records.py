"""Reading the files that TensorBoard reads."""

import struct
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

# Its names are made when it is imported, where type checkers do not see them.
Event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]


def event_files(folder: Path) -> list[list[Any]]:
    """Reads TensorBoard's records: length, checksum, content, checksum."""
    files = []
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        assert "tfevents" in path.name
        content, found = path.read_bytes(), []
        while content:
            length, check = struct.unpack("<QI", content[:12])
            assert check == masked_crc32c(content[:8])
            event = Event()
            event.ParseFromString(content[12 : 12 + length])
            found.append(event)
            content = content[16 + length :]
        files.append(found)
    return files


def scalars(events: list[Any]) -> list[tuple[str, int, float]]:
    return [
        (value.tag, event.step, value.simple_value)
        for event in events
        for value in event.summary.value
    ]
