"""Warnings about where a job's files lie: on storage that other machines cannot see, or that does not last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster import storage
from cluster.backends import Backend
from ray_jobs.jobs.preflight import run_folders

SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")
"""Folders that each machine has for itself."""


def storage_warnings(argv: Sequence[str], backend: Backend, workdir: Path) -> list[str]:
    """What may be wrong with where the job's files lie, one sentence each; none where the job runs on this machine."""
    if not backend.elsewhere:
        return []
    outs = [out for out in run_folders(argv) if "://" not in out]
    if backend.copies:
        return [*_own_to_a_node(outs), *_deleted_later(argv, outs)]
    away = [out for out in outs if not Path(out).absolute().is_relative_to(workdir)]
    asked = [(workdir, "The working directory"), *((Path(out).absolute(), "--out") for out in away)]
    return [warning for path, what in asked if (warning := storage.warning(path, what))]


def _own_to_a_node(outs: list[str]) -> list[str]:
    return [
        f"--out {out} lies in a folder that each machine has for itself: give one that outlives the cluster's nodes, "
        "such as /shared/runs/x or s3://bucket/x."
        for out in outs
        if Path(out).is_absolute() and any(Path(out).is_relative_to(top) for top in SCRATCH)
    ]


def _deleted_later(argv: Sequence[str], outs: list[str]) -> list[str]:
    writes = argv[0] in ("train", "tune", "reproduce", "demo")
    kept = any(Path(out).is_absolute() for out in outs) or "://" in " ".join(run_folders(argv))
    if not writes or kept:
        return []
    return [
        "It runs in a copy of this folder that the cluster deletes later: give --out on storage that outlives it, "
        "such as /shared/runs/x or s3://bucket/x, to keep its results."
    ]
