"""`reprise VERB ...`: read the command line, call the verb's function, and turn errors into one sentence and an exit code."""

from __future__ import annotations

import gc
import os
import shutil
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

TOP = """Train, tune and reproduce generative models and reinforcement learning, from a laptop to a cluster.

usage: reprise VERB ...          reprise VERB --help says more
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0; 1 where work failed or a claim does not hold; 2 where the command is wrong; 128 + n when signal n stopped it.
    """
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
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
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # 'reprise list | head'
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a file or folder that the user named cannot be used
        if not error.strerror:
            raise
        return _fail(UsageError(f"{error.filename or 'A file'} cannot be used: {error.strerror}."), 2)
    except Exception as error:
        from ray_jobs.train.launch import Stopped

        if not isinstance(error, Stopped):
            raise
        print(error)
        return 128 + error.signal


def _exit_code(result: Any) -> int:
    """A verb's own exit code, else 0; the path of a file that it made is printed."""
    if isinstance(result, Path):
        print(result)
    return result if isinstance(result, int) else 0


def _fail(error: Exception, code: int) -> int:
    print(f"reprise: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
