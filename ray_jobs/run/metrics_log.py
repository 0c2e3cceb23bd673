"""The metrics of a run as they come: one JSON line each, and TensorBoard's events. What the disk has no room for waits for it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path


class Growing:
    """A file that is appended to; what cannot be written now waits in memory, in its order, and nothing is written twice."""

    def __init__(self, path: Path) -> None:
        self.path, self.waiting = path, bytearray()
        self.file: io.RawIOBase | None = None

    def add(self, data: bytes) -> None:
        """Append, now or when it can be."""
        self.waiting += data
        with contextlib.suppress(OSError):
            self.flush()

    def flush(self) -> None:
        """Append what waits.

        Raises:
            OSError: the disk is full or not writable; what is left goes on waiting.
        """
        if self.file is None and self.waiting:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "ab", buffering=0)
        while self.waiting:
            del self.waiting[: self.file.write(self.waiting)]

    def close(self) -> None:
        """Write what still waits if it can be, and close."""
        self.add(b"")
        if self.file is not None:
            self.file.close()
        self.file = None


class Journal:
    """metrics.jsonl and TensorBoard's events in a run folder; both files are begun by the first line.

    Differs: tensorboardX's own writer is a thread behind a queue of ten; where the disk is full the thread dies, and whoever puts in an
    eleventh event waits for ever. Here events are written where they arise.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines = Growing(folder / "metrics.jsonl")
        self.events: Growing | None = None

    def begin(self, step: int) -> Growing:
        """A file of events; TensorBoard hides what another sitting logged from `step` on."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        events, start = Growing(self.folder / "tensorboard" / name), SessionLog(status=SessionLog.START)
        for event in (Event(file_version="brain.Event:2"), Event(step=step, session_log=start)):
            event.wall_time = time.time()
            events.add(record(event.SerializeToString()))
        return events

    def log(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Append one line, `seconds` of work after the run's beginning."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        self.lines.add((json.dumps({"step": step, "time": round(seconds, 3), **values}) + "\n").encode())
        shown = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self.events = self.events or self.begin(step)
        self.events.add(record(Event(step=step, wall_time=time.time(), summary=shown).SerializeToString()))

    def flush(self) -> None:
        """Write the lines that wait.

        Raises:
            OSError: they cannot be written now.
        """
        self.lines.flush()

    def close(self) -> None:
        """Let go of the files; what could not be written is forgotten."""
        for file in (self.lines, self.events):
            if file is not None:
                file.close()
        self.lines, self.events = Growing(self.lines.path), None


def record(data: bytes) -> bytes:
    """A TFRecord: length, its checksum, data, their checksum.

    Source: TensorFlow, tensorflow/core/lib/io/record_writer.h.
    """
    from tensorboardX.record_writer import masked_crc32c

    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc32c(head)) + data + struct.pack("<I", masked_crc32c(data))
