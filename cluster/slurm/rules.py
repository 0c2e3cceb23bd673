"""Reasons against a Slurm job that are known without asking Slurm: folders, times, names and sizes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from cluster.job import Job, parse_time
from cluster.slurm.options import SlurmOptions
from cluster.slurm.submission import root


def reasons_against(options: SlurmOptions, job: Job) -> list[str]:
    """Every reason why the job cannot run with these options, one sentence each."""
    return [*_folders(options, job), *_values(options, job)]


def _folders(options: SlurmOptions, job: Job) -> Iterator[str]:
    if not job.workdir.is_dir():
        yield f"There is no folder {job.workdir} to run in."
    top = root(options, job)
    folder = top if options.shared else job.workdir
    if set("\n\\") & set(str(top)):
        yield f"The folder {str(folder)!r} has a backslash or a line break in its name: Slurm takes none, rename it."
    elif options.shared and not os.access(folder, os.W_OK):
        yield f"The folder {folder} that --shared names is not there or cannot be written: make it."


def _values(options: SlurmOptions, job: Job) -> Iterator[str]:
    if options.time and parse_time(options.time) <= options.grace:
        yield f"--time {options.time} leaves nothing before the {options.grace:g} s of --grace: make it longer."
    if odd := [name for name in job.env if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)]:
        yield f"{odd[0]!r} cannot name a variable: use letters, digits and '_'."
    if options.min_nodes > (most := job.resources.nodes):
        yield f"--min_nodes {options.min_nodes} is more than --nodes {most}: it is the fewest nodes to start with."
    if job.resources.gpus % 1:
        yield f"Slurm gives whole GPUs, not {job.resources.gpus:g}."
