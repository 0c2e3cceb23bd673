"""A job as KubeRay's RayJob, and a long-lived RayCluster from the same pieces: plain dictionaries, no cluster asked.

What a job is told passes several readers on its way. Kubernetes replaces `$(NAME)` in commands and variables and reads
`$$` as `$`; the submitter's bash reads the entrypoint once; Ray quotes and the head's shell reads it again. So every `$`
is doubled, and the command quoted once. Variables go to the pods, not into Ray's runtime environment, which KubeRay
puts into double quotes for bash.

Source: KubeRay 1.7, ray-operator/controllers/ray/{common/job.go, rayjob_controller.go, utils/validation.go}.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cluster.job import JOB_VARIABLE, Job, Resources, State, is_secret
from cluster.kubernetes.words import label_word, literal, seconds_word, secret_word, toleration_word, volume_word

if TYPE_CHECKING:
    from cluster.kubernetes.launcher import Kubernetes

API = "ray.io/v1"
GPU = "nvidia.com/gpu"
DASHBOARD = "http://127.0.0.1:8265"
SENT = "/etc/reprise"
"""Folder in the pods where the packed working directory lies."""
ARCHIVE = "working_dir.zip"
CANCELLED = "reprise/cancelled"
"""Annotation of a RayJob that was asked to stop."""
STUCK = 60.0
"""Seconds after its submitter's end in which a job's state must follow (KubeRay itself waits 30)."""


def version(package: str) -> str:
    """The installed version of a package; '0' where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def entrypoint(command: Sequence[str], workdir: str = "") -> str:
    """The command for KubeRay, which hands it unquoted to bash; with a workdir, started there."""
    return literal(shlex.join([*(("env", "-C", workdir) if workdir else ()), *command]))


def environment(env: Mapping[str, str], secrets: Sequence[str], grace: float) -> list[dict[str, Any]]:
    """The variables of a pod's container; those of `secrets` by reference to a Secret."""
    referred = {name: (secret, key) for name, secret, key in map(secret_word, secrets)}
    plain = {"RAY_JOB_STOP_WAIT_TIME_S": str(round(grace)), "PYTHONUNBUFFERED": "1", **env}
    listed: list[dict[str, Any]] = [
        {"name": name, "value": literal(value)} for name, value in plain.items() if name not in referred
    ]
    for name, (secret, key) in referred.items():
        listed.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return listed


def exposed(job: Job, secrets: Sequence[str]) -> list[str]:
    """The names of secret variables whose values the manifest would show."""
    return [name for name in job.env if is_secret(name) and name not in {word.partition("=")[0] for word in secrets}]


def quantities(wanted: Resources) -> dict[str, str]:
    """Requests and limits of a container: CPU in whole or milli-cores, memory in bytes, whole GPUs."""
    cpu = f"{wanted.cpus:.0f}" if float(wanted.cpus).is_integer() else f"{round(wanted.cpus * 1000)}m"
    asked = {"cpu": cpu if wanted.cpus else "", "memory": str(wanted.memory or ""), GPU: f"{wanted.gpus:g}"}
    return {key: size for key, size in asked.items() if size not in ("", "0")}


def rayjob(place: Kubernetes, job: Job, name: str) -> dict[str, Any]:
    """The RayJob of this name: a cluster of its own, started for the job and taken down after it."""
    job = replace(job, env={JOB_VARIABLE: name, **job.env})
    spec: dict[str, Any] = {
        "entrypoint": entrypoint(job.command, place.workdir),
        "jobId": name,
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": round(place.ttl),
        "backoffLimit": place.attempts - 1,
    }
    if place.time:
        spec["activeDeadlineSeconds"] = seconds_word(place.time)
    if not place.workdir:
        spec["runtimeEnvYAML"] = f"working_dir: file://{SENT}/{ARCHIVE}\n"
    spec["submitterPodTemplate"] = _submitter(place, job.name)
    spec["rayClusterSpec"] = _cluster(place, job, None if place.workdir else name, stops=name)
    return _object("RayJob", place, job.name, name, spec)


def raycluster(place: Kubernetes, job: Job, name: str) -> dict[str, Any]:
    """A cluster of the job's size, variables and image that stays until it is deleted; its command is not used."""
    return _object("RayCluster", place, job.name, name, _cluster(place, job, None, stops=""))


def working_directory(name: str, packed: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The ConfigMap that carries a packed working directory (base64) to the pods of the RayJob of this name."""
    metadata = {"name": name, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": {ARCHIVE: packed}}


def labels(name: str) -> dict[str, str]:
    """What `kubectl get -l` can ask for: our version and the job's name.

    Kubernetes' common label app.kubernetes.io/name is KubeRay's own on these pods: its services find the head by it.
    """
    return {"reprise/version": re.sub(r"[^A-Za-z0-9_.-]", "_", version("reprise")), "reprise/job": name}


def _object(kind: str, place: Kubernetes, job: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, **({"namespace": place.namespace} if place.namespace else {})}
    metadata["labels"] = labels(job)
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


def _cluster(place: Kubernetes, job: Job, sent: str | None, stops: str) -> dict[str, Any]:
    """A RayCluster's spec. `sent`: the ConfigMap with the working directory; `stops`: the job that ends with the head."""
    head = _node("ray-head", place, job, sent)
    ports = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
    [container] = head["spec"]["containers"]
    container["ports"] = [{"name": key, "containerPort": port} for key, port in ports.items()]
    if stops:  # whatever takes the head down (suspension, a drained node): the job hears of it first and may save
        stop = ["ray", "job", "stop", "--address", DASHBOARD, stops]
        container["lifecycle"] = {"preStop": {"exec": {"command": stop}}}
        head["spec"]["terminationGracePeriodSeconds"] = round(place.grace) + 30
    spec: dict[str, Any] = {"rayVersion": place.ray or version("ray"), "authOptions": {"mode": "token"}}
    spec["headGroupSpec"] = {"rayStartParams": {}, "template": head}
    if (others := job.resources.nodes - 1) > 0:
        group: dict[str, Any] = {"groupName": "workers", "rayStartParams": {}}
        group |= {"replicas": others, "minReplicas": others, "maxReplicas": others}
        spec["workerGroupSpecs"] = [group | {"template": _node("ray-worker", place, job, sent)}]
    return spec


def _node(container: str, place: Kubernetes, job: Job, sent: str | None) -> dict[str, Any]:
    """The pod of one of Ray's nodes."""
    sizes = quantities(job.resources)
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for number, (claim, path) in enumerate(map(volume_word, place.volumes)):
        volumes.append({"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": f"volume-{number}", "mountPath": path})
    if sent:
        volumes.append({"name": "working-dir", "configMap": {"name": sent}})
        mounts.append({"name": "working-dir", "mountPath": SENT, "readOnly": True})
    inner = {
        "env": environment(job.env, place.secrets, place.grace),
        "resources": {"requests": sizes, "limits": dict(sizes)},
        **({"volumeMounts": mounts} if mounts else {}),
    }
    pod = _pod(container, place, job.name, inner, (place.gpu_type,) if place.gpu_type and job.resources.gpus else ())
    pod["spec"] |= {"volumes": volumes} if volumes else {}
    return pod


def _submitter(place: Kubernetes, job: str) -> dict[str, Any]:
    """The small pod that hands the command to Ray and prints what it prints; KubeRay fills in its command."""
    sizes = {"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    pod = _pod("ray-job-submitter", place, job, {"resources": sizes}, ())
    pod["spec"]["restartPolicy"] = "Never"
    return pod


def _pod(name: str, place: Kubernetes, job: str, container: Mapping[str, Any], more: Sequence[str]) -> dict[str, Any]:
    """A pod of one container where the place wants it; `more` narrows the nodes further."""
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    selector = dict(label_word(word) for word in (*place.node_selector, *more))
    spec = {
        "serviceAccountName": place.service_account,
        "priorityClassName": place.priority,
        "nodeSelector": selector,
        "tolerations": [toleration_word(word) for word in place.tolerations],
    }
    only = {"name": name, "image": place.image, "securityContext": locked, **container}
    return {"metadata": {"labels": labels(job)}, "spec": {k: v for k, v in spec.items() if v} | {"containers": [only]}}


def state_of(rayjob: Mapping[str, Any], submitter_ended: float | None = None) -> State:
    """Where a RayJob stands, from its status and the seconds since its submitter ended (None while it runs).

    The driver's word (jobStatus) comes first, for KubeRay's own can be wrong or stuck. Where KubeRay gave up on a driver
    that it last saw running (kuberay#2314, #3257), or the submitter ended and nothing follows (#3860), nobody knows.
    """
    status = rayjob.get("status") or {}
    driver, deployed = status.get("jobStatus") or "", status.get("jobDeploymentStatus") or ""
    asked = CANCELLED in (rayjob["metadata"].get("annotations") or {})
    if driver in ("SUCCEEDED", "STOPPED"):
        return State.succeeded if driver == "SUCCEEDED" else State.cancelled
    if deployed == "Suspended":  # by us, or by a queue such as Kueue until its turn comes
        return State.cancelled if asked else State.pending
    last = (status.get("failed") or 0) >= (rayjob["spec"].get("backoffLimit") or 0)
    if deployed in ("Failed", "ValidationFailed", "Complete") or (
        driver == "FAILED" and last and deployed == "Running"
    ):
        known = (
            driver == "FAILED" or status.get("reason") == "DeadlineExceeded" or not (driver or deployed == "Complete")
        )
        return State.cancelled if asked else State.failed if known else State.lost
    if driver in ("RUNNING", "PENDING") and submitter_ended is not None and submitter_ended > STUCK:
        return State.cancelled if asked else State.lost
    return State.running if driver in ("RUNNING", "FAILED") and deployed != "Retrying" else State.pending


def seconds(text: str) -> float:
    """Seconds since 1970 of a time as Kubernetes writes it; 0 for ''."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
