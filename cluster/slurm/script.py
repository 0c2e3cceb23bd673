"""The batch script of a Slurm job: pure functions from a job and its options to text.

`job.sh` is the script with places for values. It runs the command, on several nodes together with a Ray cluster of the
job's own, and records how each attempt started and ended. When it is asked to stop (the time limit is near, or a job of
higher priority needs the nodes) it sends SIGTERM to the command, which saves its work, and puts itself back into the
queue. Every word of the user is quoted. Secret words are not in the script but in files next to it that only the user may
read.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from cluster.hiding import hide_command, hide_env
from cluster.job import Job

TEMPLATE = resources.files("cluster.slurm").joinpath("job.sh").read_text(encoding="utf-8")
WORDS, SECRETS, TOKEN, RECORD, CANCEL = "words", "secrets", "token", "record", "cancel"
"""Files in a job's folder: secret words of the command, secret variables, the token of its Ray cluster, the record of its
attempts, and a mark that it was cancelled. `job.sh` has the same names."""


@dataclass(frozen=True)
class Script:
    """Everything in a script that does not come from the job itself."""

    folder: Path
    """The job's folder, which all nodes see."""
    options: tuple[tuple[str, str], ...]
    """sbatch's long options without their dashes; a flag has the value ''."""
    setup: tuple[str, ...] = ()
    """Shell lines that run before the command."""
    grace: int = 120
    """Seconds from SIGTERM to SIGKILL."""
    attempts: int = 10
    """How often the job may go back into the queue."""
    tasks: int = 0
    """Tasks of the array; 0 where it is none."""
    python: str = ""
    """Interpreter that starts Ray; '' for the command's own."""

    def text(self, job: Job) -> str:
        """The whole script."""
        private, hidden = private_files(job), secret_variables(job.env)
        wanted = {"array": self.tasks, "words": WORDS in private, "secrets": SECRETS in private}
        parts = {name for name, on in (wanted | {"ray": job.resources.nodes > 1}).items() if on}
        lines = {
            "OPTIONS": [f"#SBATCH --{name}" + (f"={_word(value)}" if value else "") for name, value in self.options],
            "SETUP": self.setup,
            "EXPORTS": [f"  export {name}={shlex.quote(v)}" for name, v in job.env.items() if name not in hidden],
        }
        return render(TEMPLATE, parts, lines, self._values(job))

    def _values(self, job: Job) -> dict[str, str]:
        secret = _secret(job)
        cpus, gpus = max(1, math.ceil(job.resources.cpus)), math.ceil(job.resources.gpus)
        return {
            "FOLDER": shlex.quote(str(self.folder)),
            "JOB": shlex.quote(self.folder.name),
            "TASKS": str(self.tasks),
            "COMMAND": " ".join(f'"$word_{i}"' if i in secret else shlex.quote(w) for i, w in enumerate(job.command)),
            "GRACE": str(self.grace),
            "ATTEMPTS": str(self.attempts),
            "WORKDIR": shlex.quote(str(job.workdir.absolute())),
            "PYTHON": shlex.quote(self.python or job.command[0]),
            "SHARE": f"--cpus-per-task={cpus}" + f" --gpus-per-node={gpus}" * bool(gpus),
            "SIZE": f"--num-cpus={cpus} --num-gpus={gpus}",
        }


def render(template: str, parts: Collection[str], lines: Mapping[str, Sequence[str]], values: Mapping[str, str]) -> str:
    """Fill in a template.

    Args:
        template: the text. `@NAME@` stands for a value, a line `@NAME@` for several lines, and the lines from `#@if NAME`
            to `#@end` belong to an optional part. A line that begins with `#@#` is a comment of the template.
        parts: the names of the optional parts to keep.
        lines: the lines of each name, each as it is; they may be none.
        values: the value of each name. What is filled in is not searched for further names.

    Raises:
        KeyError: the template has a name that has no value.
    """
    return "".join(f"{line}\n" for line in _filled(_kept(template, parts), lines, values))


def _kept(template: str, parts: Collection[str]) -> Iterator[str]:
    keep = True
    for line in template.splitlines():
        if line.startswith("#@if "):
            keep = line.removeprefix("#@if ") in parts
        elif line == "#@end":
            keep = True
        elif keep and not line.startswith("#@#"):
            yield line


def _filled(template: Iterator[str], lines: Mapping[str, Sequence[str]], values: Mapping[str, str]) -> Iterator[str]:
    for line in template:
        if (name := line.strip().strip("@")) in lines:
            yield from lines[name]
        else:
            yield re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], line)


def options(job: Job, folder: Path, more: Sequence[tuple[str, str]], min_nodes: int = 0) -> tuple[tuple[str, str], ...]:
    """sbatch's options for a job: its resources and output, then `more`.

    Args:
        job: the job.
        folder: the job's folder.
        more: further options, such as the partition.
        min_nodes: the fewest nodes to start with; 0 is all.
    """
    wanted = job.resources
    asked = {
        "job-name": job.name,
        "nodes": f"{min_nodes}-{wanted.nodes}" if min_nodes else str(wanted.nodes),
        # with a range of nodes, Slurm would then take the fewest, and not all that are free
        "ntasks-per-node": None if min_nodes else "1",
        "cpus-per-task": str(max(1, math.ceil(wanted.cpus))),
        "gpus-per-node": str(math.ceil(wanted.gpus)) if wanted.gpus else None,
        "mem": f"{math.ceil(wanted.memory / 2**20)}M" if wanted.memory else None,
        "output": str(folder / "log.txt").replace("%", "%%"),
        "open-mode": "append",
    }
    return (*((name, value) for name, value in asked.items() if value is not None), *more)


def secret_variables(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that hold a secret."""
    shown = hide_env(env)
    return {name: value for name, value in env.items() if shown[name] != value}


def private_files(job: Job) -> dict[str, str]:
    """Shell files that only the user may read, by name: secret words of the command, and secret variables."""
    words = _assigned("", {f"word_{i}": job.command[i] for i in _secret(job)})
    variables = _assigned("export ", secret_variables(job.env))
    return {name: text for name, text in ((WORDS, words), (SECRETS, variables)) if text}


def _secret(job: Job) -> list[int]:
    """The positions of the command's words that hold secrets."""
    shown = hide_command(job.command)
    return [i for i, (word, seen) in enumerate(zip(job.command, shown, strict=True)) if word != seen]


def _assigned(before: str, values: Mapping[str, str]) -> str:
    return "".join(f"{before}{name}={shlex.quote(value)}\n" for name, value in values.items())


def _word(value: str) -> str:
    """A value in an #SBATCH line. No shell reads it: inside quotes only quotes and backslashes are special."""
    plain = all(c.isalnum() or c in "%+,-./:=@_" for c in value)
    return value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
