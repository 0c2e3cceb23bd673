"""Jobs on a Ray cluster, through its Jobs API: the command runs on the cluster, in a copy of the working directory.

Before the upload, the launcher checks that the cluster answers and that one of its nodes is large enough, for a job that
fits on no node would stay pending for ever. Ray has no accounts: protect a cluster with a private network and a token
(`RAY_AUTH_MODE=token` and `RAY_AUTH_TOKEN_PATH`, the same everywhere). A cluster that `reprise cluster up` started on this
machine is found automatically, with its token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.fit import unfit
from cluster.hiding import hide_command, hide_env
from cluster.job import (
    JOB_VARIABLE,
    History,
    Job,
    LauncherError,
    State,
    exit_words,
    new_id,
)
from cluster.package import LIMIT, Package, collect, mib, write_zip
from cluster.ray_clusters.address import address_of, token_of
from cluster.ray_clusters.http import ask, authorities, bearer, loopback_direct, unreachable, wants_token

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

T = TypeVar("T")
STATES = {
    "PENDING": State.pending,
    "RUNNING": State.running,
    "SUCCEEDED": State.succeeded,
    "FAILED": State.failed,
    "STOPPED": State.cancelled,
}


REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w.,-]+\])?([=<>!~]=?[\w.*+!]+(,[=<>!~]=?[\w.*+!]+)*)?", re.ASCII)
"""A package name with versions; options, paths and addresses are refused, for pip would install from anywhere."""


@dataclass(frozen=True)
class Ray:
    """Launcher for a Ray cluster, by the address of its dashboard; `address_of` lists the forms of an address."""

    address: str = ""
    """The dashboard, http://HOST:8265; else RAY_ADDRESS, else the cluster of this machine."""
    grace: float = 60.0
    """Seconds from SIGTERM to SIGKILL when a job is cancelled (Ray's own default of 3 saves no checkpoint)."""
    timeout: float = 4.0
    """Seconds in which the cluster must answer."""
    pip: tuple[str, ...] = ()
    """Further packages that the job needs, as `einops` or `einops==0.8.1`; the command must then be `python ...`."""

    @property
    def url(self) -> str:
        """The dashboard's URL."""
        return address_of(self.address)

    def check(self, job: Job) -> list[str]:
        """Every reason why the job cannot run here: the package's size, no answer, and resources that no node has.

        A cluster that does not answer, or needs another token, is one reason, and no exception.
        """
        reasons = too_big(job) + unsafe(self.pip)
        if job.resources.nodes != 1:
            reasons.append("A job's first process runs on one node of a Ray cluster: leave nodes at 1.")
        try:
            return reasons + unfit(job.resources, self.nodes())
        except LauncherError as error:
            return [*reasons, str(error)]

    def render(self, job: Job) -> str:
        """The request to Ray with secrets hidden, and which files of the working directory would be sent or left out."""
        request = _request(job, self.grace, self.pip) | {"entrypoint": shlex.join(hide_command(job.command))}
        request["runtime_env"]["env_vars"] = hide_env(request["runtime_env"]["env_vars"])
        lines = [f"# Ray job {job.name}, to {self.url}", json.dumps(request, indent=2, ensure_ascii=False)]
        return "\n".join([*lines, *collect(job.workdir).listing()]) + "\n"

    def submit(self, job: Job) -> str:
        """Pack and upload the working directory, unless the cluster has it already, and submit the job.

        Raises:
            LauncherError: `pip` is unsafe, the package is too big, or the cluster refuses or does not answer.
        """
        if reasons := unsafe(self.pip):
            raise LauncherError(" ".join(reasons))
        self._get("/api/version")
        id = new_id(job.name)
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "working_dir.zip"
            if (size := write_zip(collect(job.workdir), archive)) > LIMIT:
                raise LauncherError(_too_big(collect(job.workdir), size))
            request = _request(job, self.grace, self.pip)
            request["runtime_env"]["working_dir"] = str(archive)
            request["runtime_env"]["env_vars"].setdefault(JOB_VARIABLE, id)
            return self._ask(lambda client: client.submit_job(submission_id=id, **request))

    def state(self, id: str) -> State:
        """The state that the cluster reports; `lost` where it does not know the job."""
        try:
            return STATES[str(self._ask(lambda client: client.get_job_status(id)).value)]
        except UnknownJob:
            return State.lost

    def history(self, id: str) -> History:
        """When the job ran, and Ray's exit code or message about its end."""
        info = self._ask(lambda client: client.get_job_info(id))
        code = info.driver_exit_code
        why = (exit_words(code) if code is not None else " ".join((info.message or "").split())) * bool(info.end_time)
        return History(started=(info.start_time or 0) / 1000, ended=(info.end_time or 0) / 1000, why=why[:300])

    def logs(self, id: str, follow: bool) -> Iterator[str]:
        """Pieces of the job's output; following survives broken connections."""
        if not follow:
            yield self._ask(lambda client: client.get_job_logs(id))
            return
        sent = 0
        while not self.state(id).ended:
            seen = 0
            for piece in self._tail(id):
                yield piece[max(sent - seen, 0) :]
                seen += len(piece)
                sent = max(sent, seen)
            time.sleep(0.2)  # the connection may have closed just before the job's state changes, or broken
        yield self._ask(lambda client: client.get_job_logs(id))[sent:]

    def cancel(self, id: str) -> None:
        """Send SIGTERM to the command and its children, and SIGKILL after the grace period that it was submitted with."""
        if not self.state(id).ended:
            self._ask(lambda client: client.stop_job(id))

    def message(self, id: str) -> str:
        """The cluster's message about the job's state, such as why it still waits."""
        return self._ask(lambda client: client.get_job_info(id)).message or ""

    @cached_property
    def _client(self) -> JobSubmissionClient:
        from ray.job_submission import JobSubmissionClient

        for name in ("modules.dashboard_sdk", "modules.job.sdk"):  # they log every upload and every closed connection
            logging.getLogger(f"ray.dashboard.{name}").setLevel(logging.WARNING)
        self._get("/api/version")  # Ray's client itself would wait for ever
        with _only_address(self.url):
            return JobSubmissionClient(self.url, headers=bearer(token_of(self.url)), verify=authorities() or True)

    def _ask(self, question: Callable[[JobSubmissionClient], T]) -> T:
        with _clear_errors(self.url), loopback_direct(self.url):
            return question(self._client)

    def _get(self, path: str) -> Any:
        """One bounded question to the dashboard."""
        return ask(self.url, path, timeout=self.timeout, headers=bearer(token_of(self.url)))

    def nodes(self) -> list[dict[str, float]]:
        """The total resources of each living node.

        Raises:
            LauncherError: the cluster does not answer in time, or wants another token.
        """
        found = self._get("/api/v0/nodes?limit=10000&detail=1")["data"]["result"]["result"]
        return [dict(node["resources_total"]) for node in found if node["state"] == "ALIVE"]

    def _tail(self, id: str) -> Iterator[str]:
        """The job's output from its beginning, until the connection closes."""
        from aiohttp import ClientError

        pieces: AsyncIterator[str] = self._client.tail_job_logs(id)
        with asyncio.Runner() as runner, contextlib.suppress(RuntimeError, OSError, ClientError):
            while (piece := runner.run(_next(pieces))) is not None:
                yield piece


class UnknownJob(LauncherError):
    """The cluster has no job with this id."""


def too_big(job: Job) -> list[str]:
    """Reasons against sending the working directory; it is packed only where its files could exceed the limit."""
    try:
        package = collect(job.workdir)
    except ValueError as error:
        return [str(error)]
    if package.size <= LIMIT:
        return []
    with tempfile.TemporaryDirectory() as scratch:
        size = write_zip(package, Path(scratch) / "working_dir.zip")
    return [_too_big(package, size)] if size > LIMIT else []


def unsafe(packages: Sequence[str]) -> list[str]:
    """Reasons against the packages to install for a job: each must match `REQUIREMENT`."""
    odd = [name for name in packages if not REQUIREMENT.fullmatch(name)]
    return [f"{name!r} names no package: write NAME, NAME[EXTRA] or NAME==VERSION." for name in odd]


def _too_big(package: Package, size: int) -> str:
    return (
        f"The working directory {package.root} packs to {mib(size)}, and a Ray cluster takes {mib(LIMIT)}: list what "
        f"the job does not need in .rayignore; the largest files are {package.largest()}."
    )


def _request(job: Job, grace: float, pip: Sequence[str] = ()) -> dict[str, Any]:
    """The arguments for Ray's client, without the working directory. The process that stops the job reads the variable."""
    env = {"RAY_JOB_STOP_WAIT_TIME_S": str(round(grace)), **job.env}
    request: dict[str, Any] = {"entrypoint": shlex.join(job.command), "runtime_env": {"env_vars": env}}
    request["runtime_env"] |= {"pip": list(pip)} if pip else {}
    wanted = job.resources
    sizes = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "memory": wanted.memory}
    return request | {f"entrypoint_{key}": size for key, size in sizes.items() if size}


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


@contextlib.contextmanager
def _only_address(url: str) -> Iterator[None]:
    """Set the variable that Ray's client prefers to its argument and to RAY_ADDRESS."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = url
    try:
        yield
    finally:
        del os.environ[name]
        os.environ.update({name: before} if before is not None else {})


@contextlib.contextmanager
def _clear_errors(url: str) -> Iterator[None]:
    """Turn an exception of Ray's client in the block into a LauncherError of one sentence."""
    try:
        yield
    except LauncherError:
        raise
    except Exception as error:
        raise _translated(error, url) from None


def _translated(error: Exception, url: str) -> LauncherError:
    text = " ".join(str(error).split())
    if "Authentication" in type(error).__name__ or "Authentication" in text or "Unauthorized" in text:
        return LauncherError(wants_token(url))
    if "does not exist" in text and "404" in text:
        return UnknownJob(f"The Ray cluster at {url} knows no such job: {text[:200]}")
    if isinstance(error, ConnectionError | OSError):
        return LauncherError(unreachable(url, text[:120]))
    return LauncherError(f"The Ray cluster at {url} refused: {text[:400]}")
