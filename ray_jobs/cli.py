"""`reprise VERB ...`: read the command line, call the verb's function, and turn errors into one sentence and an exit code."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # two threads on two busy cores can be 40 times slower than one
    os.environ.setdefault(_name, "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("PYTHONWARNINGS", "ignore")
gc.set_threshold(
    100_000, 10, 10
)  # importing torch makes a million objects that all stay: scanning them again takes 0.1 s

NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)
"""Errors of the system about a name that cannot be."""
TOP = """Train, tune and reproduce generative models and reinforcement learning, from a laptop to a cluster.

usage: reprise VERB ...          reprise VERB --help says more
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0; 1 where work failed or a claim does not hold; 2 where the command is wrong; 128 + n when signal n stopped it.
    """
    from ray_jobs import terminal

    pressed: list[int] = []
    try:
        if argv is None:
            terminal.utf8_files()
            _note_interrupts(pressed)
        terminal.prepare()
        code = _main(list(sys.argv[1:] if argv is None else argv) or ["--help"])
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted(argv)
    except BrokenPipeError:
        if not terminal.reader_gone():
            raise
        terminal.silence(sys.stdout)
        return 0
    except Exception:
        if pressed:  # some library made another error of it, as one whose import was cut off
            return _interrupted(argv)
        raise


def _note_interrupts(pressed: list[int]) -> None:
    """Add each Ctrl-C to `pressed`, besides what it does; where it is ignored, as in a script's background, it stays so."""

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)


def _interrupted(argv: Sequence[str] | None) -> int:
    """The exit code after Ctrl-C; another one while Python ends is no traceback."""
    if argv is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return 128 + signal.SIGINT


def _main(words: list[str]) -> int:
    if "_ARGCOMPLETE" in os.environ:
        from ray_jobs.completion import complete

        complete()
    if words[0] in ("-h", "--help", "help"):
        from ray_jobs.command.verbs import VERBS, listed

        print(f"{TOP}\n{listed(list(VERBS), shutil.get_terminal_size().columns)}")
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("reprise"))
        return 0
    return _run(words)


def _run(argv: list[str]) -> int:
    from ray_jobs.command.requests import parse
    from ray_jobs.errors import Failed, UsageError

    try:
        return _exit_code(parse(argv).run())
    except UsageError as error:
        return _fail(error, 2)
    except Failed as error:
        return _fail(error, 1)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except OSError as error:
        return _fail(_about(error), 2 if error.errno in NAMES else 1)
    except Exception as error:
        from ray_jobs.train.launch import Stopped

        if not isinstance(error, Stopped):
            raise
        print(error)
        return 128 + error.signal


def _about(error: OSError) -> Exception:
    """An error of the system as a sentence; one without a reason and a file needs its trace and stays."""
    if not error.strerror or error.filename is None:
        raise error
    from ray_jobs.errors import shortened

    return Exception(f"{error.strerror}: {shortened(os.fsdecode(error.filename))}")


def _exit_code(result: Any) -> int:
    """A verb's own exit code, else 0; the path of a file that it made is printed."""
    if isinstance(result, Path):
        print(result)
    return result if isinstance(result, int) else 0


def _fail(error: Exception, code: int) -> int:
    from ray_jobs.errors import printable

    print(f"reprise: {printable(error, lines=True)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
