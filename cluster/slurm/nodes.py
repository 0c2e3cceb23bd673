"""The nodes of a Slurm cluster as sinfo lists them, and the reasons why a partition could never run a job."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.job import Resources, parse_time

SINFO = "%P|%l|%D|%c|%m|%G"
"""sinfo's --format: partition, time limit, nodes, cores, memory in MiB, generic resources."""


@dataclass(frozen=True)
class Nodes:
    """Equal nodes of one partition."""

    partition: str
    default: bool
    """Whether this is the partition of jobs that name none."""
    limit: float
    """Seconds that a job may run."""
    count: int
    cpus: int
    memory: int
    """Bytes of each."""
    gpus: int


def nodes_of(sinfo: str) -> list[Nodes]:
    """The nodes that `sinfo --exact --format` lists; nodes that are down count too, for they may come back."""
    found = []
    for line in sinfo.splitlines():
        name, limit, count, cpus, memory, gres = line.strip().split("|", 5)
        sizes = int(count), int(cpus), int(memory) * 2**20, gpus_in(gres)
        time = math.inf if limit == "n/a" else parse_time(limit)
        found.append(Nodes(name.rstrip("*"), name.endswith("*"), time, *sizes))
    return found


def gpus_in(gres: str) -> int:
    """The number of GPUs in sinfo's generic resources, as 'gpu:a100:4(S:0-1),gpu:2,nvme:1'."""
    words = re.sub(r"\([^)]*\)", "", gres).split(",")
    return sum(int(word.rpartition(":")[2]) for word in words if re.fullmatch(r"gpu(:[^:]+)?:\d+", word))


def unfit(wanted: Resources, partition: str, time: str, nodes: Sequence[Nodes]) -> list[str]:
    """Every reason why the partition could never run the job; nodes that are busy count as free.

    Args:
        wanted: the job's resources.
        partition: one partition, or several with commas; '' for the default one.
        time: the job's time limit; '' for none.
        nodes: all nodes of the cluster.
    """
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
