"""Our product as a user starts it: the console script's own two lines, in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONSOLE = "import sys; from ray_jobs.cli import main; sys.exit(main())"
RUN = Path("run")


def start(*words: str) -> subprocess.Popen:
    """`reprise WORDS... --out run`, its display on standard error; an older run there would be taken for this one."""
    if RUN.exists():
        raise FileExistsError(f"{RUN.resolve()} exists: measure in an empty folder")
    return subprocess.Popen([sys.executable, "-c", CONSOLE, *words, "--out", str(RUN)], stdout=sys.stderr)


def until(process: subprocess.Popen, ready: Callable[[], object], every: float = 0.02) -> None:
    """Look every so often whether the run folder says what is waited for; then stop the run as Ctrl-C would.

    Raises:
        RuntimeError: the command ended before that.
    """
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"reprise ended with exit code {process.returncode} before what was waited for")
        time.sleep(every)
    process.terminate()
    process.wait()


def metrics() -> list[dict]:
    """The metrics so far; a line that is only half written is left for the next look."""
    path = RUN / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def status() -> dict:
    """The content of status.json; empty without one."""
    path = RUN / "status.json"
    return json.loads(path.read_text()) if path.exists() else {}
