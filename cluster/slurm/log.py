"""The growing output of a job: one file, and one more for each task of an array."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path


class Log:
    """Reads the new output each time. Each read opens the file again, for only then a network file system shows new data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, int] = {}
        self._open: dict[Path, str] = {}
        self._decode: dict[Path, codecs.IncrementalDecoder] = {}

    def more(self, last: bool) -> Iterator[str]:
        """The output since the last call: whole lines of each task after its number, then the job's own output.

        Args:
            last: whether this is the last call, so that an unfinished line is shown too.
        """
        for path in sorted(self.folder.glob("task-*.txt"), key=_task):
            text = self._open.pop(path, "") + self._new(path)
            whole, line = text[: text.rfind("\n") + 1], text[text.rfind("\n") + 1 :]
            if line and last:
                whole, line = f"{text}\n", ""
            self._open[path] = line
            if whole:
                yield "".join(f"[{_task(path)}] {line}" for line in whole.splitlines(keepends=True))
        if text := self._new(self.folder / "log.txt"):
            yield text

    def _new(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
        except FileNotFoundError:
            return ""
        self._read[path] = self._read.get(path, 0) + len(data)
        return self._decode.setdefault(path, codecs.getincrementaldecoder("utf-8")("replace")).decode(data)


def _task(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name) or 0)
