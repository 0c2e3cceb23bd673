"""What the user reads: every stream and console of `reprise` is made here.

A terminal that cannot show a character gets another one, and a reader that has gone (`reprise list | head`) ends the output, not the work.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import locale
import os
import select
import sys
from typing import Any, TextIO

STAND_IN = "reprise.stand_in"
"""Name of the error handler of encodings, see `_stand_in`."""
STAND_INS = {"≥": ">=", "≤": "<=", "±": "+-", "·": "-", "…": "...", "→": "->", "×": "x", "–": "-", "━": "-", "’": "'"}
"""What stands for a character that cannot be shown; '?' for all others."""


def prepare() -> None:
    """Let this process's output replace what it cannot show; a stream that was closed (`>&-`) takes everything and shows nothing."""
    codecs.register_error(STAND_IN, _stand_in)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=STAND_IN)


def utf8_files() -> None:
    """Start this program again where Python would read and write files in another encoding than UTF-8; the terminal's stays."""
    already = sys.flags.utf8_mode or sys.flags.ignore_environment or os.environ.get("PYTHONUTF8") == "1"
    if already or locale.getpreferredencoding(False).lower() == "utf-8":
        return
    shown = {"PYTHONIOENCODING": sys.stdout.encoding} if sys.stdout else {}
    os.execve(sys.executable, sys.orig_argv, {**shown, **os.environ, "PYTHONUTF8": "1"})


def copy_of_stdout() -> TextIO:
    """A stream of its own to where stdout goes now, which stays there when stdout is sent to a file."""
    sys.stdout.flush()
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with contextlib.suppress(LookupError):
        codecs.lookup_error(STAND_IN)
        return open(os.dup(1), "w", buffering=1, encoding=encoding, errors=STAND_IN)
    return open(os.dup(1), "w", buffering=1, encoding=encoding, errors="replace")


def console(
    file: TextIO | None = None, *, markup: bool = True, soft_wrap: bool = False, width: int | None = None
) -> Any:
    """A rich console, without colours for numbers; when its reader has gone, it drops the rest.

    Args:
        file: where it writes; stdout by default.
        markup: whether [bold] and the like are read as styles: only for texts that are ours.
        soft_wrap: whether long lines stay one line.
        width: in characters; the terminal's by default.
    """
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            """Drop the rest of the output; rich itself would end the process with exit code 1."""
            self.quiet = True
            silence(self.file)

    return Patient(file=file, highlight=False, markup=markup, soft_wrap=soft_wrap, width=width)


def reader_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    waiting = select.poll()
    with contextlib.suppress(OSError, ValueError):
        waiting.register(1, 0)
        return any(event & select.POLLERR for _, event in waiting.poll(0))
    return False


def silence(stream: Any) -> None:
    """Send a stream, with what it still holds, to nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """Other characters for those that an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(STAND_INS.get(c, "?") for c in error.object[error.start : error.end]), error.end
