"""Jobs on a Kubernetes cluster, through KubeRay: each job is a RayJob, a Ray cluster of its own that ends with it.

The working directory travels in a ConfigMap; what is larger lies on a volume or in the image (`workdir`). Secrets are
only named: Kubernetes gives their values to the pods. Ray's parts know each other by a token that KubeRay makes.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml

from cluster.job import History, Job, LauncherError, Resources, State, hide_command, hide_env, new_id
from cluster.kubernetes import check as kube_check
from cluster.kubernetes import rayjob, rules
from cluster.kubernetes.api import Api, Missing, Silent
from cluster.kubernetes.words import object_name
from cluster.package import collect, write_zip

T = TypeVar("T")
OUTAGE = 60.0
"""Seconds that whoever follows a log waits for a silent cluster."""


@dataclass(frozen=True)
class Kubernetes:
    """A namespace of a Kubernetes cluster on which KubeRay (1.5.1 or newer) runs."""

    image: str = ""
    """Image of the pods, REGISTRY/NAME:TAG; its tag must hold reprise's version."""
    namespace: str = ""
    """Namespace of the jobs; else the context's own."""
    context: str = ""
    """Context of the kubeconfig; else its current one."""
    kubeconfig: str = ""
    """File that tells how to reach the cluster; else KUBECONFIG, the pod's own account, ~/.kube/config."""
    service_account: str = ""
    """Account that the pods run under, for instance to pull the image or to reach a bucket."""
    node_selector: tuple[str, ...] = ()
    """Labels that the nodes must have, LABEL=VALUE."""
    tolerations: tuple[str, ...] = ()
    """Taints that are no hindrance: KEY, KEY=VALUE, KEY:NoSchedule or KEY=VALUE:NoSchedule."""
    gpu_type: str = ""
    """Label of the nodes with the right GPUs, LABEL=VALUE; used where GPUs are asked for."""
    volumes: tuple[str, ...] = ()
    """PersistentVolumeClaims and where the pods see them, CLAIM:/PATH."""
    secrets: tuple[str, ...] = ()
    """Variables whose values a Secret holds, VARIABLE=SECRET/KEY."""
    priority: str = ""
    """PriorityClass of the pods."""
    workdir: str = ""
    """Folder in the pods (on a volume, or in the image) to start in; else a copy of the working directory is sent."""
    python: str = "python"
    """Interpreter in the image that runs reprise."""
    ray: str = ""
    """Version of Ray in the image; else the one installed here."""
    attempts: int = 1
    """How often the job may start; each time on a new Ray cluster."""
    time: str = ""
    """Time limit as Slurm writes it, such as 04:00:00 or 2-12 (days-hours); else none."""
    ttl: float = 60.0
    """Seconds that the Ray cluster stays after the job's end."""
    grace: float = 60.0
    """Seconds from SIGTERM to SIGKILL when a job is cancelled or its node is drained."""
    autoscaled: bool = False
    """Whether nodes are added when they are needed: then their sizes are not checked."""
    timeout: float = 10.0
    """Seconds in which the cluster must answer."""

    def check(self, job: Job) -> list[str]:
        """Reasons against: names, image, secrets, sizes; then what the cluster lacks, forbids or refuses.

        A cluster that does not answer is one reason; no exception is raised for it.
        """
        reasons = rules.before(self, job)
        if list(rules.bad_words(self)):
            return reasons
        try:
            for reason in kube_check.asked(self, job, self._api):
                reasons.append(reason)
            if not reasons:
                manifest = rayjob.rayjob(self, job, object_name(new_id(job.name)))
                reasons += kube_check.refused(manifest, self._api)
        except LauncherError as error:
            reasons.append(str(error))
        return reasons

    def render(self, job: Job) -> str:
        """The RayJob's YAML, and what of the working directory would be sent or left out."""
        hidden = replace(job, command=hide_command(job.command), env=hide_env(job.env))
        manifest = rayjob.rayjob(self, hidden, object_name(f"{job.name}-xxxxxxxx"))
        lines = [f"# RayJob of the job {job.name}; xxxxxxxx is drawn when it is submitted", _yaml(manifest).rstrip()]
        if not self.workdir:
            lines += [f"# {line}" for line in collect(job.workdir).listing()]
        return "\n".join(lines) + "\n"

    def render_cluster(self, name: str, resources: Resources) -> str:
        """The YAML of a RayCluster of this size that stays; submit to it with the launcher of Ray's Jobs API."""
        job = Job(name, ("true",), resources)
        return _yaml(rayjob.raycluster(self, job, object_name(name)))

    def submit(self, job: Job) -> str:
        """Sends the working directory and the RayJob, and returns the RayJob's name.

        Raises:
            LauncherError: a secret would be shown, the working directory is too big, or the cluster refuses.
        """
        for reason in rules.before(self, job):
            raise LauncherError(reason)
        name = object_name(new_id(job.name))
        manifest = rayjob.rayjob(self, job, name)
        if self.workdir:
            self._api.create(manifest)
            return name
        self._api.send(rayjob.working_directory(name, packed(job.workdir), rayjob.labels(job.name)))
        try:
            made = self._api.create(manifest)
        except BaseException:
            self._api.take_back(name)
            raise
        self._api.give_to(name, made)
        return name

    def state(self, id: str) -> State:
        """The state, from the RayJob and its submitter; `lost` where the cluster knows no such job (any more)."""
        try:
            found = self._api.rayjob(object_name(id))
        except Missing:
            return State.lost
        state = rayjob.state_of(found)
        if state is State.running:
            state = rayjob.state_of(found, self._api.submitter_ended(object_name(id)))
        return state

    def logs(self, id: str, follow: bool) -> Iterator[str]:
        """Pieces of what the submitter's newest pod printed; following goes on over broken connections and short outages.

        Differs: where a submitter was replaced, Ray tells its successor the whole log again, under a line that says so.
        """
        seen, sent, decode = "", 0, codecs.getincrementaldecoder("utf-8")("replace").decode
        while True:
            ended = not follow or self._patiently(self.state, id).ended
            pod = self._patiently(self._submitter_pod, id) if follow else self._submitter_pod(id)
            if pod and seen and pod != seen:
                sent = 0
                yield f"\n--- {pod} took over and tells all from the beginning ---\n"
            skipped = 0
            try:
                for piece in self._api.words(pod, follow and not ended) if pod else ():
                    new = piece[max(sent - skipped, 0) :]
                    skipped += len(piece)
                    sent = max(sent, skipped)
                    yield decode(new)
            except (Missing, Silent):  # another pod takes over, or the connection broke
                if not follow:
                    raise
                ended = False
            seen = pod or seen
            if ended:  # asked before the last read, so nothing is missed
                return
            time.sleep(0.2)

    def cancel(self, id: str) -> None:
        """SIGTERM to the command, SIGKILL after the grace period; the log stays.

        Where the Ray cluster is not up, or we may not run commands in its pods, the RayJob is suspended instead: its
        pods go, with the same grace, and the log with them.
        """
        found = self._api.rayjob(object_name(id))
        if rayjob.state_of(found).ended:
            return
        self._api.patch(object_name(id), {"metadata": {"annotations": {rayjob.CANCELLED: f"{time.time():.0f}"}}})
        if not self._stop(found):
            self._api.patch(object_name(id), {"spec": {"suspend": True}})

    def history(self, id: str) -> History:
        """Starts and times by KubeRay's count, and what the cluster says of the job's state."""
        status = self._api.rayjob(object_name(id)).get("status") or {}
        begun, over = (rayjob.seconds(status.get(f"{when}Time") or "") for when in ("start", "end"))
        failed = status.get("failed") or 0
        return History(max(failed + (not over), 1), begun, over, self.message(id))

    def pinned(self) -> dict[str, Any]:
        """Which cluster this is, whatever becomes of KUBECONFIG and the current context."""
        return {"kubeconfig": self._api.file, "context": self._api.current, "namespace": self._api.namespace}

    def message(self, id: str) -> str:
        """What the cluster says of the job's state, such as why its pods still wait."""
        status = self._api.rayjob(object_name(id)).get("status") or {}
        waiting = (
            self._api.pods(f"ray.io/cluster={status.get('rayClusterName')}") if status.get("rayClusterName") else []
        )
        return " ".join(filter(None, [status.get("reason"), status.get("message"), *map(_waits_for, waiting)]))

    @cached_property
    def _api(self) -> Api:
        return Api(self.kubeconfig, self.context, self.namespace, self.timeout)

    def _patiently(self, question: Callable[[str], T], id: str) -> T:
        """The answer, waited for while the cluster is silent, for a minute at most."""
        deadline = time.monotonic() + OUTAGE
        while True:
            try:
                return question(id)
            except Silent:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _submitter_pod(self, id: str) -> str:
        """The newest pod of the submitter that has begun; '' before that."""
        pods = self._api.pods(f"job-name={object_name(id)}")
        begun = [pod.metadata.name for pod in pods if pod.status.phase != "Pending"]
        if not begun:
            self._api.rayjob(object_name(id))
        return begun[-1] if begun else ""

    def _stop(self, found: dict[str, Any]) -> bool:
        """Lets Ray stop the job, from within its head; whether that could be done."""
        status = found.get("status") or {}
        if status.get("jobDeploymentStatus") != "Running":
            return False
        stop = ["ray", "job", "stop", "--no-wait", "--address", rayjob.DASHBOARD, status["jobId"]]
        with contextlib.suppress(LauncherError):
            heads = self._api.pods(f"ray.io/cluster={status['rayClusterName']},ray.io/node-type=head")
            return any(self._api.execute(pod.metadata.name, "ray-head", stop) == 0 for pod in heads[-1:])
        return False


def _yaml(manifest: dict[str, Any]) -> str:
    return yaml.safe_dump(manifest, sort_keys=False, width=2**20, allow_unicode=True)


def packed(workdir: Path) -> str:
    """The files of a working directory as a zip in base64."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / rayjob.ARCHIVE
        write_zip(collect(workdir), archive)
        with zipfile.ZipFile(archive, "a") as archived:  # Ray would take a single folder at the top away
            archived.writestr(zipfile.ZipInfo(".reprise"), b"")
        return base64.b64encode(archive.read_bytes()).decode()


def _waits_for(pod: Any) -> str:
    """Why a pod does not run, in Kubernetes' words; '' where it does."""
    states = [one.state.waiting for one in pod.status.container_statuses or [] if one.state and one.state.waiting]
    words = [f"{one.reason}: {one.message or ''}".rstrip(": ") for one in states]
    words += [one.message for one in pod.status.conditions or [] if one.reason == "Unschedulable" and one.message]
    return " ".join(f"{pod.metadata.name}: {word}" for word in words)
