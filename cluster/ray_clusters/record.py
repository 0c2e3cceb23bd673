"""The records of clusters that were started here, with address, token and processes of each."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cluster.job import LauncherError
from cluster.ray_clusters.plan import Cluster, Node
from cluster.supervisor import Identity, identity, read_json, write_json
from cluster.trust import state_folder


def clusters_folder() -> Path:
    """The folder that holds a folder for each cluster: cluster.json, its token, and the logs of its nodes."""
    return state_folder() / "clusters"


def folder_of(name: str) -> Path:
    """The folder of the cluster of this name."""
    return clusters_folder() / name


def claim(cluster: Cluster, *, token: bool) -> Cluster:
    """Reserve the cluster's name, and make its folder, its token and a folder with a short path for Ray.

    Raises:
        LauncherError: the name is taken, or the folder cannot be made.
    """
    folder = folder_of(cluster.name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700)
        secret = write_token(folder / "token") if token else ""
        made = replace(cluster, token=secret, temp=tempfile.mkdtemp(prefix="rp-"), starter=identity(os.getpid()))
        save(made)
    except FileExistsError:
        raise LauncherError(
            f"There is a cluster {cluster.name} already: `reprise cluster down {cluster.name}`."
        ) from None
    except OSError as error:
        raise LauncherError(
            f"{folder} cannot be made ({error.strerror}): set REPRISE_STATE to a folder of yours."
        ) from None
    return made


def write_token(path: Path) -> str:
    """Write a new secret of 256 bits to a file that only its owner can read; returns the file's path."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return str(path)


def save(cluster: Cluster) -> None:
    """Write the record, all of it or nothing."""
    write_json(folder_of(cluster.name) / "cluster.json", asdict(cluster))


def load(name: str) -> Cluster:
    """The cluster of this name.

    Raises:
        LauncherError: there is none, or its record is damaged.
    """
    try:
        found = read_json(folder_of(name) / "cluster.json") if Path(name).name == name else None
        if found is not None:
            return _restored(found)
    except (OSError, ValueError, TypeError, KeyError):
        raise LauncherError(f"{folder_of(name)} is damaged: stop its processes by hand, and delete it.") from None
    there = ", ".join(c.name for c in known()) or "none"
    raise LauncherError(f"There is no cluster {name!r} here; there is: {there}. `reprise cluster up` starts one.")


def known() -> list[Cluster]:
    """Every cluster whose record can be read, running or not, oldest first."""
    return sorted(_readable(), key=lambda cluster: cluster.created)


def running() -> list[Cluster]:
    """The clusters that run on this machine."""
    return [c for c in known() if c.ready and c.machine == socket.gethostname() and c.lives]


def token_for(url: str) -> str:
    """The token of this machine's running cluster with this dashboard; '' where there is none."""
    for cluster in running():
        if cluster.url == url and cluster.token:
            return Path(cluster.token).read_text().strip()
    return ""


def _readable() -> Iterator[Cluster]:
    for path in clusters_folder().glob("*/cluster.json"):
        try:
            yield _restored(read_json(path) or {})
        except (OSError, ValueError, TypeError, KeyError):
            continue


def _restored(found: Mapping[str, Any]) -> Cluster:
    nodes: Sequence[Mapping[str, Any]] = found["nodes"]
    processes = tuple(Identity(pid=p["pid"], started=p["started"]) for p in found["processes"])
    return Cluster(**{**found, "nodes": tuple(Node(**n) for n in nodes), "processes": processes})
