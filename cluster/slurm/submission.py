"""What is sent to Slurm for a job: its script, the options of each call of sbatch, and the files in its folder."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from cluster.job import Job
from cluster.slurm import folder as slurm_folder
from cluster.slurm import script
from cluster.slurm.options import SlurmOptions
from cluster.slurm.script import Script
from cluster.storage import keep_out_of_git

SBATCH = ("partition", "time", "account", "qos", "constraint", "reservation")
"""Options that sbatch has under the same name."""


def root(options: SlurmOptions, job: Job) -> Path:
    """The folder that holds the folders of jobs."""
    return Path(options.shared).expanduser().absolute() if options.shared else job.workdir.absolute() / ".reprise/slurm"


def batch_script(options: SlurmOptions, job: Job, id: str) -> str:
    """The text of the batch script of the job with this id."""
    folder = root(options, job) / id
    more = [(name, getattr(options, name)) for name in SBATCH if getattr(options, name)]
    more += [("signal", f"B:USR1@{round(options.grace)}"), ("requeue" if options.attempts else "no-requeue", "")]
    sbatch = script.options(job, folder, more, options.min_nodes)
    made = Script(folder, sbatch, options.setup, round(options.grace), options.attempts, options.array, options.python)
    return made.text(job)


def calls(options: SlurmOptions, job: Job, id: str, dependency: Sequence[str]) -> list[list[str]]:
    """The options of each call of sbatch; the second call has ARRAY for Slurm's number of the first job.

    Args:
        options: the launcher's options.
        job: the job.
        id: its id.
        dependency: options of sbatch that name the jobs to wait for.
    """
    if not options.array:
        return [list(dependency)]
    folder = str(root(options, job) / id).replace("%", "%%")
    tasks = [f"--array=0-{options.array - 1}", f"--output={folder}/task-%a.txt", *dependency]
    return [tasks, ["--dependency=afterany:ARRAY"]]


def write_folder(options: SlurmOptions, job: Job, folder: Path) -> None:
    """Make the job's folder, with its script and its private files.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, mode=0o700)
    if not options.shared:
        keep_out_of_git(folder.parent)
        pointer = slurm_folder.pointer(folder.name)
        pointer.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        pointer.write_text(str(folder))
    slurm_folder.write_private(folder / "script", batch_script(options, job, folder.name))
    for name, text in script.private_files(job).items():
        slurm_folder.write_private(folder / name, text)
    if job.resources.nodes > 1:
        slurm_folder.write_private(folder / script.TOKEN, secrets.token_hex(32))
