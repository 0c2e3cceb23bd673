"""Jobs on a Kubernetes cluster, through KubeRay: each job is a RayJob, with a Ray cluster that ends with the job.

The working directory is sent in a ConfigMap; a larger one must lie on a volume or in the image (`workdir`). Secrets are
only named: Kubernetes gives their values to the pods. The parts of the Ray cluster share a token that KubeRay makes.
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

from cluster.hiding import hide_command, hide_env
from cluster.job import History, Job, LauncherError, State, new_id
from cluster.kubernetes import check as kube_check
from cluster.kubernetes import objects, rayjob, rules, words
from cluster.kubernetes.api import Api, Missing, Silent
from cluster.kubernetes.options import KubernetesOptions
from cluster.kubernetes.words import object_name
from cluster.package import collect, write_zip

T = TypeVar("T")
OUTAGE = 60.0
"""Seconds for which following a log waits for a cluster that does not answer."""


@dataclass(frozen=True)
class Kubernetes(KubernetesOptions):
    """Launcher for a namespace of a Kubernetes cluster on which KubeRay (1.5.1 or newer) runs."""

    def check(self, job: Job) -> list[str]:
        """Every reason why the job cannot run here: names, image, secrets, sizes; then what the cluster lacks or refuses.

        A cluster that does not answer is one reason, and no exception.
        """
        reasons = rules.reasons_against(self, job)
        if list(rules.malformed(self)):
            return reasons
        try:
            for reason in kube_check.reasons_against(self, job, self._api):
                reasons.append(reason)
            if not reasons:
                manifest = rayjob.rayjob(self, job, object_name(new_id(job.name)))
                reasons += kube_check.refusals(manifest, self._api)
        except LauncherError as error:
            reasons.append(str(error))
        return reasons

    def render(self, job: Job) -> str:
        """The RayJob's YAML, and what of the working directory would be sent or left out."""
        hidden = replace(job, command=hide_command(job.command), env=hide_env(job.env))
        manifest = rayjob.rayjob(self, hidden, object_name(f"{job.name}-xxxxxxxx"))
        lines = [
            f"# RayJob of the job {job.name}; xxxxxxxx is chosen when it is submitted",
            rayjob.as_yaml(manifest).rstrip(),
        ]
        if not self.workdir:
            lines += [f"# {line}" for line in collect(job.workdir).listing()]
        return "\n".join(lines) + "\n"

    def submit(self, job: Job) -> str:
        """Send the working directory and the RayJob, and return the RayJob's name.

        Raises:
            LauncherError: a secret would be shown, the working directory is too big, or the cluster refuses.
        """
        for reason in rules.reasons_against(self, job):
            raise LauncherError(reason)
        name = object_name(new_id(job.name))
        manifest = rayjob.rayjob(self, job, name)
        if self.workdir:
            objects.create_rayjob(self._api, manifest)
            return name
        objects.create_config_map(
            self._api, rayjob.working_directory(name, packed(job.workdir), rayjob.labels(job.name))
        )
        try:
            made = objects.create_rayjob(self._api, manifest)
        except BaseException:
            objects.delete_config_map(self._api, name)
            raise
        objects.set_owner(self._api, name, made)
        return name

    def state(self, id: str) -> State:
        """The state, from the RayJob and its submitter; `lost` where the cluster does not have the RayJob."""
        try:
            found = objects.read_rayjob(self._api, object_name(id))
        except Missing:
            return State.lost
        state = rayjob.state_of(found)
        if state is State.running:
            state = rayjob.state_of(found, objects.seconds_since_submitter_ended(self._api, object_name(id)))
        return state

    def logs(self, id: str, follow: bool) -> Iterator[str]:
        """Pieces of the output of the submitter's newest pod; following survives broken connections and short outages.

        Differs: where a submitter was replaced, the new one prints the whole log again; a line announces this.
        """
        seen, sent, decode = "", 0, codecs.getincrementaldecoder("utf-8")("replace").decode
        while True:
            ended = not follow or self._patiently(self.state, id).ended
            pod = self._patiently(self._submitter_pod, id) if follow else self._submitter_pod(id)
            if pod and seen and pod != seen:
                sent = 0
                yield f"\n--- {pod} replaces {seen} and prints the log from the beginning ---\n"
            skipped = 0
            try:
                for piece in objects.pod_log(self._api, pod, follow and not ended) if pod else ():
                    new = piece[max(sent - skipped, 0) :]
                    skipped += len(piece)
                    sent = max(sent, skipped)
                    yield decode(new)
            except (Missing, Silent):  # the pod was replaced, or the connection broke
                if not follow:
                    raise
                ended = False
            seen = pod or seen
            if ended:  # determined before the last read, so nothing is missed
                return
            time.sleep(0.2)

    def cancel(self, id: str) -> None:
        """Send SIGTERM to the command, and SIGKILL after the grace period; the log stays.

        Where the Ray cluster is not up, or we may not run commands in its pods, the RayJob is suspended instead: its
        pods end with the same grace, and their log is deleted.
        """
        found = objects.read_rayjob(self._api, object_name(id))
        if rayjob.state_of(found).ended:
            return
        objects.patch_rayjob(
            self._api, object_name(id), {"metadata": {"annotations": {rayjob.CANCELLED: f"{time.time():.0f}"}}}
        )
        if not self._stop(found):
            objects.patch_rayjob(self._api, object_name(id), {"spec": {"suspend": True}})

    def history(self, id: str) -> History:
        """Attempts and times as KubeRay counts them, and the cluster's reason for the job's state."""
        status = objects.read_rayjob(self._api, object_name(id)).get("status") or {}
        started, ended = (rayjob.seconds(status.get(f"{when}Time") or "") for when in ("start", "end"))
        failed = status.get("failed") or 0
        return History(max(failed + (not ended), 1), started, ended, self.message(id))

    def pinned(self) -> dict[str, Any]:
        """Options that identify this cluster even when KUBECONFIG or the current context change."""
        return {"kubeconfig": self._api.file, "context": self._api.current, "namespace": self._api.namespace}

    def message(self, id: str) -> str:
        """The cluster's reason for the job's state, such as why its pods still wait."""
        status = objects.read_rayjob(self._api, object_name(id)).get("status") or {}
        waiting = (
            objects.pods(self._api, f"ray.io/cluster={status.get('rayClusterName')}")
            if status.get("rayClusterName")
            else []
        )
        return " ".join(filter(None, [status.get("reason"), status.get("message"), *map(_waits_for, waiting)]))

    @cached_property
    def _api(self) -> Api:
        return Api(self.kubeconfig, self.context, self.namespace, self.timeout)

    def _patiently(self, question: Callable[[str], T], id: str) -> T:
        """The answer; while the cluster does not answer, try again for `OUTAGE` seconds."""
        deadline = time.monotonic() + OUTAGE
        while True:
            try:
                return question(id)
            except Silent:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _submitter_pod(self, id: str) -> str:
        """The newest pod of the submitter that has started; '' before that."""
        pods = objects.pods(self._api, f"job-name={object_name(id)}")
        started = [pod.metadata.name for pod in pods if pod.status.phase != "Pending"]
        if not started:
            objects.read_rayjob(self._api, object_name(id))
        return started[-1] if started else ""

    def _stop(self, found: dict[str, Any]) -> bool:
        """Let Ray stop the job, from within its head; returns whether that worked."""
        status = found.get("status") or {}
        if status.get("jobDeploymentStatus") != "Running":
            return False
        stop = ["ray", "job", "stop", "--no-wait", "--address", rayjob.DASHBOARD, status["jobId"]]
        with contextlib.suppress(LauncherError):
            heads = objects.pods(self._api, f"ray.io/cluster={status['rayClusterName']},ray.io/node-type=head")
            return any(objects.execute(self._api, pod.metadata.name, "ray-head", stop) == 0 for pod in heads[-1:])
        return False


def packed(workdir: Path) -> str:
    """The files of a working directory as a zip in base64."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / words.ARCHIVE
        write_zip(collect(workdir), archive)
        with zipfile.ZipFile(archive, "a") as archived:  # Ray would remove a folder that is alone at the top
            archived.writestr(zipfile.ZipInfo(".reprise"), b"")
        return base64.b64encode(archive.read_bytes()).decode()


def _waits_for(pod: Any) -> str:
    """Kubernetes' reason why a pod does not run; '' where it runs."""
    states = [one.state.waiting for one in pod.status.container_statuses or [] if one.state and one.state.waiting]
    reasons = [f"{one.reason}: {one.message or ''}".rstrip(": ") for one in states]
    reasons += [one.message for one in pod.status.conditions or [] if one.reason == "Unschedulable" and one.message]
    return " ".join(f"{pod.metadata.name}: {reason}" for reason in reasons)
