"""Calls of Slurm's programs: sbatch, squeue, sacct and others, with bounded waits and errors as one sentence."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from cluster.job import LauncherError, State

PATIENCE = 60.0
"""Seconds in which a program of Slurm must answer."""
STATES = {
    State.pending: "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD",
    State.running: "RUNNING COMPLETING SIGNALING STAGE_OUT RESIZING SUSPENDED STOPPED",
    State.succeeded: "COMPLETED",
    State.cancelled: "CANCELLED REVOKED",
    State.failed: "FAILED TIMEOUT NODE_FAIL OUT_OF_MEMORY BOOT_FAIL DEADLINE PREEMPTED LAUNCH_FAILED RECONFIG_FAIL",
}
"""Slurm's words for each state."""
_STATE = {word: state for state, words in STATES.items() for word in words.split()}


def ask(*line: str, text: str | None = None, cwd: str | None = None) -> str:
    """The output of one of Slurm's programs.

    Args:
        line: the program and its arguments.
        text: its input; None for none.
        cwd: the folder to start it in; None for the current one.

    Raises:
        LauncherError: it is not installed, refuses, or does not answer.
    """
    try:
        done = subprocess.run(line, input=text, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE)
    except FileNotFoundError:
        raise LauncherError(
            f"There is no {line[0]} on this machine: submit from a login node of the Slurm cluster."
        ) from None
    except subprocess.TimeoutExpired:
        raise LauncherError(f"Slurm's {line[0]} did not answer within {PATIENCE:g} s: try again later.") from None
    if done.returncode and done.stderr.strip():  # scancel fails without a message where no job is left
        raise LauncherError(f"Slurm refused: {error_of(done.stderr)}.")
    return done.stdout


def error_of(stderr: str) -> str:
    """The last line of a program's errors, without the program's name."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return re.sub(r"^(\w+: )?((error|fatal): )?", "", lines[-1]).strip().rstrip(".") if lines else ""


def reason(ids: Sequence[str]) -> str:
    """Slurm's reason for the state of the last of these jobs, as 'Resources' or 'TimeLimit'; '' where it gives none."""
    try:
        shown = ask("squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", "--format=%i|%r")
    except LauncherError:
        return ""
    found = dict(line.split("|", 1) for line in shown.splitlines() if "|" in line).get(ids[-1], "")
    return "" if found == "None" else found


def states(ids: Sequence[str]) -> dict[str, State]:
    """The state of each job and task (123, 123_4) that Slurm still knows, from squeue, else from sacct.

    Raises:
        LauncherError: squeue does not answer.
    """
    try:
        shown = ask("squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", "--format=%i|%T")
    except LauncherError as error:
        if "Invalid job id" not in str(error):
            raise
        shown = ""
    return _read(shown) or _read(_accounting(ids))


def _accounting(ids: Sequence[str]) -> str:
    """sacct's answer from its data base, else from the file of completed jobs; '' where a site keeps neither."""
    line = ["sacct", "--noheader", "--parsable2", f"--jobs={','.join(ids)}"]
    for more in (["--allocations", "--format=JobID,State"], ["--completion", "--format=JobID,State"]):
        try:
            if shown := ask(*line, *more):
                return shown
        except LauncherError:
            continue
    return ""


def _read(shown: str) -> dict[str, State]:
    pairs = (line.split("|")[:2] for line in shown.splitlines() if "|" in line)
    return {id: _STATE[word.split()[0]] for id, word in pairs if word.split()[0] in _STATE}
