"""The metrics of a run: one JSON line for each step that is logged, and TensorBoard's events. A full disk delays them, and loses none."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ray_jobs.run.files import opened
from ray_jobs.run.records import metrics_line

BLOCK = 2**16
LONGEST = 2**20
"""Bytes of the longest line of metrics that is read."""


def forwards(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of metrics.jsonl, oldest first."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened(path, "rb") as file:
        while line := file.readline(LONGEST):
            if (found := metrics_line(line)) is not None:
                yield found


def backwards(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The lines of metrics.jsonl, newest first, and where each one ends in the file; only what is asked for is read."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened(path, "rb") as file:
        at, begun = file.seek(0, os.SEEK_END), b""  # the part of a line that the block before it begins
        while at and len(begun) < LONGEST:
            size = min(BLOCK, at)
            at = file.seek(at - size)
            begun, *lines = (file.read(size) + begun).split(b"\n")
            end = at + len(begun) + sum(1 + len(line) for line in lines)
            for line in reversed(lines):
                if (found := metrics_line(line)) is not None:
                    yield found, end
                end -= 1 + len(line)
        if not at and (found := metrics_line(begun)) is not None:
            yield found, len(begun)


def cut_after(path: Path, step: int) -> dict[str, Any] | None:
    """Drop the lines that were logged after `step`; the last one that is kept. The time that it takes depends on what is dropped."""
    last, end = next(((found, end) for found, end in backwards(path) if found["step"] <= step), (None, 0))
    with opened(path, "ab") as file:
        file.truncate(end)
        file.write(b"\n" if last else b"")
        file.flush()
        os.fsync(file.fileno())
    return last


class AppendedFile:
    """A file to append to; data that cannot be written now waits in memory, in order, and nothing is written twice."""

    def __init__(self, path: Path, within: Path | None = None) -> None:
        self.path, self.within, self.waiting = path, within, bytearray()
        self.file: IO[bytes] | None = None

    def add(self, data: bytes) -> None:
        """Append data now, or later if it cannot be written now."""
        self.waiting += data
        with contextlib.suppress(OSError):
            self.flush()

    def flush(self) -> None:
        """Append the data that waits.

        Raises:
            OSError: the disk is full or not writable; the rest continues to wait.
        """
        if self.file is None and self.waiting:
            self.file = opened(self.path, "ab", within=self.within, buffering=0)
        while self.waiting and self.file is not None:
            del self.waiting[: self.file.write(self.waiting)]

    def close(self) -> None:
        """Write the data that waits, if possible, and close."""
        self.add(b"")
        if self.file is not None:
            self.file.close()
        self.file = None


class MetricsLog:
    """metrics.jsonl and TensorBoard's events in a run folder; the first line starts both files.

    Differs: tensorboardX's own writer is a thread behind a queue of ten events. On a full disk the thread dies, and the caller that adds
    an eleventh event waits for ever. Here the caller's thread writes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines = AppendedFile(folder / "metrics.jsonl", folder)
        self.events: AppendedFile | None = None

    def start_events(self, step: int) -> AppendedFile:
        """A new file of events; TensorBoard hides what an earlier attempt logged from `step` on."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        events, start = (
            AppendedFile(self.folder / "tensorboard" / name, self.folder),
            SessionLog(status=SessionLog.START),
        )
        for event in (Event(file_version="brain.Event:2"), Event(step=step, session_log=start)):
            event.wall_time = time.time()
            events.add(tfrecord(event.SerializeToString()))
        return events

    def log(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Append one line.

        Args:
            seconds: of work since the run began, over all attempts.
        """
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        self.lines.add((json.dumps({"step": step, "time": round(seconds, 3), **values}) + "\n").encode())
        shown = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self.events = self.events or self.start_events(step)
        self.events.add(tfrecord(Event(step=step, wall_time=time.time(), summary=shown).SerializeToString()))

    def flush(self) -> None:
        """Write the lines that wait.

        Raises:
            OSError: they cannot be written now.
        """
        self.lines.flush()

    def close(self) -> None:
        """Close the files; lines that could not be written are lost."""
        for file in (self.lines, self.events):
            if file is not None:
                file.close()
        self.lines, self.events = AppendedFile(self.lines.path, self.folder), None


def tfrecord(data: bytes) -> bytes:
    """A TFRecord: length, its checksum, data, their checksum.

    Source: TensorFlow, tensorflow/core/lib/io/record_writer.h.
    """
    from tensorboardX.record_writer import masked_crc32c

    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc32c(head)) + data + struct.pack("<I", masked_crc32c(data))
