"""Jobs on a Slurm cluster: each is a batch script, sent with sbatch from a login node, with a folder that all nodes see.

A job's folder holds `script`, `log.txt` (`task-N.txt` for the tasks of an array), `job.json` (Slurm's own ids) and
`record`, in which the script writes how each attempt started and ended. The state is read from the record, then from
squeue, and from sacct only where squeue has forgotten the job: many sites keep no accounting.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.hiding import hide
from cluster.job import History, Job, LauncherError, State, new_id
from cluster.slurm import client, rules, script, submission
from cluster.slurm import folder as slurm_folder
from cluster.slurm.log import Log
from cluster.slurm.nodes import SINFO, nodes_of, unfit
from cluster.slurm.options import SlurmOptions
from cluster.supervisor import write_json

POLL, ASK = 0.2, 3.0
"""Seconds between two reads of a log, and between two questions to Slurm, which many users share."""


@dataclass(frozen=True)
class Slurm(SlurmOptions):
    """Launcher for the Slurm cluster of this login node."""

    def check(self, job: Job) -> list[str]:
        """Every reason why the job cannot run here: folders, jobs to wait for, sinfo's nodes, `sbatch --test-only`.

        A Slurm that does not answer is one reason, and no exception.
        """
        reasons = rules.reasons_against(self, job)
        for id in self.after:
            with _kept(reasons):
                self._slurm_id(id)
        with _kept(reasons):
            shown = client.ask("sinfo", "--all", "--noheader", "--exact", f"--format={SINFO}")
            least = replace(job.resources, nodes=self.min_nodes or job.resources.nodes)
            reasons += unfit(least, self.partition, self.time, nodes_of(shown))
        if not reasons:
            with _kept(reasons):
                text = submission.batch_script(self, job, "test")
                client.ask("sbatch", "--test-only", *self._dependency(), text=text)
        return reasons

    def render(self, job: Job) -> str:
        """The batch script, which holds no secret, and the calls of sbatch as comments."""
        calls = submission.calls(self, job, "ID", self._dependency())
        lines = [f"# {shlex.join(['sbatch', '--parsable', *line, 'script'])}" for line in calls]
        shown = replace(self, setup=tuple(hide(line) for line in self.setup))
        return submission.batch_script(shown, job, "ID") + "\n".join(["", *lines, ""])

    def submit(self, job: Job) -> str:
        """Write the job's folder, send the script and return the job's id.

        Raises:
            LauncherError: the folder cannot be written, or Slurm refuses.
        """
        id = new_id(job.name)
        folder = submission.root(self, job) / id
        sent: list[str] = []
        try:
            submission.write_folder(self, job, folder)
            for line in submission.calls(self, job, id, self._dependency()):
                ready = [word.replace("ARRAY", sent[0]) if sent else word for word in line]
                answer = client.ask("sbatch", "--parsable", *ready, str(folder / "script"))
                sent.append(answer.split(";")[0].strip())
            write_json(folder / "job.json", {"slurm": sent, "submitted": time.time()})
        except (LauncherError, OSError) as error:
            for number in sent:
                client.ask("scancel", number)
            shutil.rmtree(folder, ignore_errors=True)
            raise LauncherError(str(error)) from None
        return id

    def state(self, id: str) -> State:
        """The state: from the job's record once the script has recorded the end, else from Slurm.

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
        """Times, attempts and how the job ended; before its end, Slurm's reason for its state."""
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
            if ended:  # determined before the last read, so nothing is missed
                return
            time.sleep(POLL)

    def cancel(self, id: str) -> None:
        """Send SIGTERM to the command; the script sends SIGKILL after the grace period, and a second, later call too."""
        folder = self._folder(id)
        if self.state(id).ended:
            return
        mark = folder / script.CANCEL
        late = mark.exists() and time.time() - mark.stat().st_mtime > self.grace
        mark.touch()
        ids = slurm_folder.numbers(folder)
        client.ask("scancel", "--quiet", "--state=PENDING", *ids)
        gently = [] if late else ["--signal=TERM", "--batch"]
        client.ask("scancel", "--quiet", "--state=RUNNING", *gently, *ids)

    def _dependency(self) -> list[str]:
        """Options of sbatch that name the jobs to wait for."""
        if not self.after:
            return []
        return [f"--dependency=afterok:{':'.join(map(self._slurm_id, self.after))}", "--kill-on-invalid-dep=yes"]

    def _folder(self, id: str) -> Path:
        return slurm_folder.find(id, self.shared)

    def _slurm_id(self, id: str) -> str:
        return id if id.isdigit() else slurm_folder.numbers(self._folder(id))[-1]


@contextlib.contextmanager
def _kept(reasons: list[str]) -> Iterator[None]:
    """Turn a LauncherError in the block into one more reason."""
    try:
        yield
    except LauncherError as error:
        reasons.append(str(error))
