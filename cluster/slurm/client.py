"""What Slurm says of a place and of its jobs: its programs asked, their answers read, reasons against a job found."""

from __future__ import annotations

import difflib
import math
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.job import LauncherError, Resources, State, parse_time

PATIENCE = 60.0
"""Seconds in which a program of Slurm must answer."""
SINFO = "%P|%l|%D|%c|%m|%G"
STATES = {
    State.pending: "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD",
    State.running: "RUNNING COMPLETING SIGNALING STAGE_OUT RESIZING SUSPENDED STOPPED",
    State.succeeded: "COMPLETED",
    State.cancelled: "CANCELLED REVOKED",
    State.failed: "FAILED TIMEOUT NODE_FAIL OUT_OF_MEMORY BOOT_FAIL DEADLINE PREEMPTED LAUNCH_FAILED RECONFIG_FAIL",
}
_STATE = {word: state for state, words in STATES.items() for word in words.split()}


@dataclass(frozen=True)
class Nodes:
    """Nodes of a partition that are alike."""

    partition: str
    default: bool
    """Whether a job that names no partition comes here."""
    limit: float
    """Seconds that a job may run."""
    count: int
    cpus: int
    memory: int
    """Bytes of each."""
    gpus: int


def ask(*line: str, text: str | None = None, cwd: str | None = None) -> str:
    """What one of Slurm's programs prints.

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
    if done.returncode and done.stderr.strip():  # scancel fails without a word where nothing is left to end
        raise LauncherError(f"Slurm refused: {said(done.stderr)}.")
    return done.stdout


def said(stderr: str) -> str:
    """The last complaint of a program, without the names before it."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return re.sub(r"^(\w+: )?((error|fatal): )?", "", lines[-1]).strip().rstrip(".") if lines else ""


def nodes_of(sinfo: str) -> list[Nodes]:
    """The nodes that `sinfo --exact --format` lists; what is down counts too, for it may come back."""
    found = []
    for line in sinfo.splitlines():
        name, limit, count, cpus, memory, gres = line.strip().split("|", 5)
        sizes = int(count), int(cpus), int(memory) * 2**20, gpus_in(gres)
        time = math.inf if limit == "n/a" else parse_time(limit)
        found.append(Nodes(name.rstrip("*"), name.endswith("*"), time, *sizes))
    return found


def gpus_in(gres: str) -> int:
    """GPUs in sinfo's word, as 'gpu:a100:4(S:0-1),gpu:2,nvme:1'."""
    words = re.sub(r"\([^)]*\)", "", gres).split(",")
    return sum(int(word.rpartition(":")[2]) for word in words if re.fullmatch(r"gpu(:[^:]+)?:\d+", word))


def unfit(wanted: Resources, partition: str, time: str, nodes: Sequence[Nodes]) -> list[str]:
    """Reasons for which the partition could never run the job."""
    names = {group.partition for group in nodes}
    here = [n for n in nodes if n.partition in partition.split(",") or (not partition and n.default)]
    strange = sorted(set(partition.split(",")) - names) if partition else []
    if strange:
        near = difflib.get_close_matches(strange[0], names, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return [f"Slurm has no partition {strange[0]!r}, only {', '.join(sorted(names))}.{hint}"]
    if not here:
        return [f"Slurm has no default partition: name one of {', '.join(sorted(names))} with --partition."]
    return _too_much(wanted, here) + _too_long(time, here)


def _too_much(wanted: Resources, here: Sequence[Nodes]) -> list[str]:
    name = here[0].partition
    asked = [
        (wanted.nodes, sum(n.count for n in here), f"{{}} nodes were asked for, and the partition {name} has {{}}."),
        (wanted.cpus, max(n.cpus for n in here), f"{{}} CPU cores were asked for, and {name}'s largest node has {{}}."),
        (wanted.gpus, max(n.gpus for n in here), f"{{}} GPUs of each node were asked for, and {name}'s have {{}}."),
    ]
    memory = max(n.memory for n in here)
    sentence = f"{{}} GiB of memory were asked for, and {name}'s largest node has {{}}."
    asked.append((wanted.memory / 2**30, memory / 2**30, sentence))
    reasons = [text.format(f"{want:g}", f"{has:.4g}") for want, has, text in asked if not want <= has]
    fitting = sum(
        n.count for n in here if n.cpus >= wanted.cpus and n.gpus >= wanted.gpus and n.memory >= wanted.memory
    )
    if not reasons and fitting < wanted.nodes:
        reasons.append(
            f"Only {fitting} nodes of {name} have all that was asked for: ask for less of each, or for fewer."
        )
    return reasons


def _too_long(time: str, here: Sequence[Nodes]) -> list[str]:
    limit = max(n.limit for n in here)
    if not time or parse_time(time) <= limit:
        return []
    return [f"--time {time} is above the {limit / 3600:g} hours that the partition {here[0].partition} allows."]


def reason(ids: Sequence[str]) -> str:
    """Why Slurm says that the last of these jobs stands as it does ('Resources', 'TimeLimit'); empty where it says nothing."""
    try:
        shown = ask("squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", "--format=%i|%r")
    except LauncherError:
        return ""
    told = dict(line.split("|", 1) for line in shown.splitlines() if "|" in line).get(ids[-1], "")
    return "" if told == "None" else told


def states(ids: Sequence[str]) -> dict[str, State]:
    """The state of each job and task (123, 123_4) that Slurm still remembers; accounting is asked where squeue forgot."""
    try:
        shown = ask("squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", "--format=%i|%T")
    except LauncherError as error:
        if "Invalid job id" not in str(error):
            raise
        shown = ""
    return _read(shown) or _read(_accounting(ids))


def _accounting(ids: Sequence[str]) -> str:
    """What sacct knows, from its data base or from the file of completed jobs; nothing where a site keeps neither."""
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
