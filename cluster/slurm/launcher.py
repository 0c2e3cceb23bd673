"""Jobs on a Slurm cluster: a batch script for each, sent by sbatch from a login node, in a folder that all nodes see.

Each job has a folder: `script`, `log.txt` (`task-N.txt` for the tasks of an array), `job.json` (Slurm's own ids), and
`record`, in which the script itself writes how each attempt began and ended. The state is read from the record, then
from squeue, and from sacct only where that has forgotten the job: many sites keep no accounting.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.job import History, Job, LauncherError, State, new_id, parse_time
from cluster.slurm import client, script
from cluster.slurm import folder as slurm_folder
from cluster.slurm.log import Log
from cluster.slurm.script import Script
from cluster.supervisor import write_json

WORD = re.compile(r"[\w.,:;@+/=*&|()\[\]!%-]*")
POLL, ASK = 0.2, 3.0
"""Seconds between two looks at a log, and between two questions to Slurm, which many share."""


@dataclass(frozen=True)
class Slurm:
    """The Slurm cluster of this login node."""

    partition: str = ""
    """Partition, or several with commas; Slurm's default one where empty."""
    time: str = ""
    """Time limit, such as 04:00:00 or 2-12; the partition's default where empty."""
    account: str = ""
    """Account that is charged."""
    qos: str = ""
    """Quality of service."""
    constraint: str = ""
    """Features that the nodes must have, such as 'a100&nvlink'."""
    reservation: str = ""
    """Reservation to run in."""
    setup: tuple[str, ...] = ()
    """Shell lines that run before the command, such as 'module load cuda': the only words that a shell reads as such."""
    shared: str = ""
    """Folder that all nodes see, for scripts, logs and records; .reprise/slurm in the working directory where empty."""
    grace: float = 120.0
    """Seconds to save its work that a job has before its time limit and when it is cancelled."""
    attempts: int = 10
    """How often a job that was stopped (time limit, preemption, lost node) is put back into the queue."""
    after: tuple[str, ...] = ()
    """Jobs, ours or Slurm's own numbers, that must have succeeded before this one starts."""
    array: int = 0
    """Tasks that share the command's work, each a Slurm job, before one more gathers it; 0 is one job for all."""
    min_nodes: int = 0
    """The fewest nodes to begin with, where not all of --nodes are free; 0 waits for all."""
    python: str = ""
    """Interpreter there that starts Ray on several nodes; the command's own where empty."""

    def __post_init__(self) -> None:
        for name in ("partition", "account", "qos", "constraint", "reservation"):
            if not WORD.fullmatch(getattr(self, name)):
                raise LauncherError(f"{getattr(self, name)!r} can be no {name} of Slurm's: it has a space or a quote.")
        if self.time:
            parse_time(self.time)
        for name, least, most in (
            ("grace", 0, 65535),
            ("attempts", 0, 10**6),
            ("array", 0, 10**6),
            ("min_nodes", 0, 10**6),
        ):
            if not least <= getattr(self, name) <= most:
                raise LauncherError(f"--{name} must be from {least} to {most}, not {getattr(self, name)}.")
        for id in self.after:
            if not re.fullmatch(r"[\w.-]+", id):
                raise LauncherError(f"--after names jobs by their ids, and {id!r} cannot be one.")

    def check(self, job: Job) -> list[str]:
        """Reasons against: folders, jobs to wait for, and what sinfo and `sbatch --test-only` have against it.

        A Slurm that does not answer is one reason; no exception is raised for it.
        """
        reasons = [] if job.workdir.is_dir() else [f"There is no folder {job.workdir} to run in."]
        reasons += self._unshared(job) + self._unmeasured(job)
        for id in self.after:
            with _kept(reasons):
                self._slurm_id(id)
        with _kept(reasons):
            shown = client.ask("sinfo", "--all", "--noheader", "--exact", f"--format={client.SINFO}")
            least = replace(job.resources, nodes=self.min_nodes or job.resources.nodes)
            reasons += client.unfit(least, self.partition, self.time, client.nodes_of(shown))
        if not reasons:
            with _kept(reasons):
                client.ask("sbatch", "--test-only", *self._dependency(), text=self._script(job, "test").text(job))
        return reasons

    def render(self, job: Job) -> str:
        """The batch script, which holds no secret, and how sbatch is called with it."""
        lines = [f"# {shlex.join(['sbatch', '--parsable', *line, 'script'])}" for line in self._calls(job, "ID")]
        return self._script(job, "ID").text(job) + "\n".join(["", *lines, ""])

    def submit(self, job: Job) -> str:
        """Writes the job's folder, sends the script and returns the job's id.

        Raises:
            LauncherError: the folder cannot be written, or Slurm refuses.
        """
        id = new_id(job.name)
        folder = self._root(job) / id
        sent: list[str] = []
        try:
            self._write(folder, job)
            for line in self._calls(job, id):
                ready = [word.replace("ARRAY", sent[0]) if sent else word for word in line]
                sent.append(client.ask("sbatch", "--parsable", *ready, str(folder / "script")).split(";")[0].strip())
            write_json(folder / "job.json", {"slurm": sent, "submitted": time.time()})
        except (LauncherError, OSError) as error:
            for number in sent:
                client.ask("scancel", number)
            shutil.rmtree(folder, ignore_errors=True)
            raise LauncherError(str(error)) from None
        return id

    def state(self, id: str) -> State:
        """The state, from the job's record where the script has said how it ended, else from Slurm.

        Raises:
            LauncherError: there is no such job, or Slurm does not answer.
        """
        folder = self._folder(id)
        if (ended := slurm_folder.ended(folder)) is not None:
            return ended
        ids = slurm_folder.numbers(folder)
        known = client.states(ids)
        ended = slurm_folder.ended(folder)  # it may have ended since the first look
        if ended is not None or not known:
            return ended or (State.cancelled if (folder / script.CANCEL).exists() else State.lost)
        own = known.get(ids[-1], State.lost)
        return State.running if own is State.pending and State.running in known.values() else own

    def exit_code(self, id: str) -> int | None:
        """The command's exit code; None while it runs or where it is unknown."""
        return slurm_folder.exit_code(self._folder(id))

    def history(self, id: str) -> History:
        """When the job ran and how often, how it ended, or what Slurm says of it while it has not."""
        folder = self._folder(id)
        known = slurm_folder.history(folder)
        return known if known.ended else replace(known, why=client.reason(slurm_folder.numbers(folder)))

    def logs(self, id: str, follow: bool) -> Iterator[str]:
        """Pieces of the job's output; the lines of an array's tasks begin with their numbers."""
        folder = self._folder(id)
        log, asked, ended = Log(folder), time.monotonic(), not follow
        while True:
            ended = ended or slurm_folder.ended(folder) is not None
            if not ended and time.monotonic() - asked > ASK:
                ended, asked = self.state(id).ended, time.monotonic()
            yield from log.more(ended)
            if ended:  # asked before the last read, so nothing is missed
                return
            time.sleep(POLL)

    def cancel(self, id: str) -> None:
        """SIGTERM to the command now, SIGKILL after the grace period; the script counts it, and a second call sees to it."""
        folder = self._folder(id)
        if self.state(id).ended:
            return
        told = folder / script.CANCEL
        late = told.exists() and time.time() - told.stat().st_mtime > self.grace
        told.touch()
        ids = slurm_folder.numbers(folder)
        client.ask("scancel", "--quiet", "--state=PENDING", *ids)
        gently = [] if late else ["--signal=TERM", "--batch"]
        client.ask("scancel", "--quiet", "--state=RUNNING", *gently, *ids)

    # ---- what is sent

    def _script(self, job: Job, id: str) -> Script:
        folder = self._root(job) / id
        place = [
            (name, getattr(self, name)) for name in ("partition", "time", "account", "qos", "constraint", "reservation")
        ]
        place = [(name, value) for name, value in place if value]
        place += [("signal", f"B:USR1@{round(self.grace)}"), ("requeue" if self.attempts else "no-requeue", "")]
        options = script.options(job, folder, place, self.min_nodes)
        return Script(folder, options, self.setup, round(self.grace), self.attempts, self.array, self.python)

    def _calls(self, job: Job, id: str) -> list[list[str]]:
        """The options of each call of sbatch; the second one's dependency names the first, which is no number yet."""
        if not self.array:
            return [self._dependency()]
        folder = str(self._root(job) / id).replace("%", "%%")
        tasks = [f"--array=0-{self.array - 1}", f"--output={folder}/task-%a.txt", *self._dependency()]
        return [tasks, ["--dependency=afterany:ARRAY"]]

    def _dependency(self) -> list[str]:
        if not self.after:
            return []
        return [f"--dependency=afterok:{':'.join(map(self._slurm_id, self.after))}", "--kill-on-invalid-dep=yes"]

    def _write(self, folder: Path, job: Job) -> None:
        folder.mkdir(parents=True, mode=0o700)
        if not self.shared:
            (folder.parent / ".gitignore").write_text("*\n")
            pointer = slurm_folder.pointer(folder.name)
            pointer.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            pointer.write_text(str(folder))
        slurm_folder.private(folder / "script", self._script(job, folder.name).text(job))
        for name, text in script.private_files(job).items():
            slurm_folder.private(folder / name, text)
        if job.resources.nodes > 1:
            slurm_folder.private(folder / script.TOKEN, secrets.token_hex(32))

    # ---- where it lies

    def _root(self, job: Job) -> Path:
        return Path(self.shared).expanduser().absolute() if self.shared else job.workdir.absolute() / ".reprise/slurm"

    def _folder(self, id: str) -> Path:
        return slurm_folder.find(id, self.shared)

    def _slurm_id(self, id: str) -> str:
        return id if id.isdigit() else slurm_folder.numbers(self._folder(id))[-1]

    def _unshared(self, job: Job) -> list[str]:
        folder = self._root(job) if self.shared else job.workdir
        if set("\n\\") & set(str(self._root(job))):
            return [
                f"The folder {str(folder)!r} has a backslash or a line break in its name: Slurm takes none, rename it."
            ]
        if not self.shared or os.access(folder, os.W_OK):
            return []
        return [f"The folder {folder} that --shared names is not there or cannot be written: make it."]

    def _unmeasured(self, job: Job) -> list[str]:
        reasons = []
        if self.time and parse_time(self.time) <= self.grace:
            reasons.append(f"--time {self.time} leaves nothing before the {self.grace:g} s of --grace: make it longer.")
        if odd := [name for name in job.env if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)]:
            reasons.append(f"{odd[0]!r} cannot name a variable: use letters, digits and '_'.")
        if self.min_nodes > (most := job.resources.nodes):
            reasons.append(
                f"--min_nodes {self.min_nodes} are more than --nodes {most}: it is the fewest to begin with."
            )
        if job.resources.gpus % 1:
            reasons.append(f"Slurm gives whole GPUs, not {job.resources.gpus:g}.")
        return reasons


@contextlib.contextmanager
def _kept(reasons: list[str]) -> Iterator[None]:
    try:
        yield
    except LauncherError as error:
        reasons.append(str(error))
