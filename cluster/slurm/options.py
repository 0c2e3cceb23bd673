"""The options of the Slurm backend: one frozen dataclass, whose docstrings are the help of the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.job import LauncherError, parse_time

WORD = re.compile(r"[\w.,:;@+/=*&|()\[\]!%-]*")
"""A value that needs no quotes in an #SBATCH line."""
LIMITS = {"grace": 65535, "attempts": 10**6, "array": 10**6, "min_nodes": 10**6}
"""The largest value of each number; the smallest is 0."""


@dataclass(frozen=True)
class SlurmOptions:
    """How a job runs on the Slurm cluster of this login node."""

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
    """Shell lines that run before the command, such as 'module load cuda'; only these are read as shell code."""
    shared: str = ""
    """Folder that all nodes see, for scripts, logs and records; .reprise/slurm in the working directory where empty."""
    grace: float = 120.0
    """Seconds to save its work that a job has before its time limit and when it is cancelled."""
    attempts: int = 10
    """How often a job that was stopped (time limit, preemption, lost node) is put back into the queue."""
    after: tuple[str, ...] = ()
    """Jobs, by their ids or Slurm's numbers, that must have succeeded before this one starts."""
    array: int = 0
    """Tasks that share the command's work, each a Slurm job; one more job then collects it; 0 is one job for all."""
    min_nodes: int = 0
    """The fewest nodes to start with, where not all of --nodes are free; 0 waits for all."""
    python: str = ""
    """Interpreter there that starts Ray on several nodes; the command's own where empty."""

    def __post_init__(self) -> None:
        """Refuse values that Slurm cannot take.

        Raises:
            LauncherError: an option has such a value.
            ValueError: `time` is no time limit.
        """
        for name in ("partition", "account", "qos", "constraint", "reservation"):
            if not WORD.fullmatch(value := getattr(self, name)):
                raise LauncherError(f"{value!r} can be no {name} of Slurm's: it has a space or a quote.")
        if self.time:
            parse_time(self.time)
        for name, most in LIMITS.items():
            if not 0 <= getattr(self, name) <= most:
                raise LauncherError(f"--{name} must be from 0 to {most}, not {getattr(self, name)}.")
        for id in self.after:
            if not re.fullmatch(r"[\w.-]+", id):
                raise LauncherError(f"--after names jobs by their ids, and {id!r} cannot be one.")
