"""A job as KubeRay's RayJob, and a long-lived RayCluster from the same parts. Pure functions that return plain dictionaries.

Several programs read a command and its variables. Kubernetes replaces `$(NAME)` in them and reads `$$` as `$`; the
submitter's bash reads the entrypoint once; Ray quotes it, and the head's shell reads it again. So every `$` is doubled,
and the command is quoted once. Variables are set in the pods and not in Ray's runtime environment, which KubeRay puts
into double quotes for bash.

Source: KubeRay 1.7, ray-operator/controllers/ray/{common/job.go, rayjob_controller.go, utils/validation.go}.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import yaml

from cluster.hiding import hide_env
from cluster.job import JOB_VARIABLE, Job, Resources, State
from cluster.kubernetes import words
from cluster.kubernetes.options import KubernetesOptions

API = "ray.io/v1"
DASHBOARD = "http://127.0.0.1:8265"
SENT = "/etc/reprise"
"""Folder in the pods that holds the packed working directory."""
CANCELLED = "reprise/cancelled"
"""Annotation of a RayJob that was asked to stop."""
STUCK = 60.0
"""Seconds after the end of its submitter in which a job's state must change (KubeRay itself waits 30)."""


def entrypoint(command: Sequence[str], workdir: str = "") -> str:
    """The command as one line for KubeRay, which passes it unquoted to bash; with a workdir, it starts there."""
    return words.literal(shlex.join([*(("env", "-C", workdir) if workdir else ()), *command]))


def environment(env: Mapping[str, str], secrets: Sequence[str], grace: float) -> list[dict[str, Any]]:
    """The variables of a pod's container; those of `secrets` by reference to a Secret."""
    referred = {name: (secret, key) for name, secret, key in map(words.parse_secret, secrets)}
    plain = {"RAY_JOB_STOP_WAIT_TIME_S": str(round(grace)), "PYTHONUNBUFFERED": "1", **env}
    listed: list[dict[str, Any]] = [
        {"name": name, "value": words.literal(value)} for name, value in plain.items() if name not in referred
    ]
    for name, (secret, key) in referred.items():
        listed.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return listed


def exposed(job: Job, secrets: Sequence[str]) -> list[str]:
    """The names of secret variables whose values the manifest would show."""
    shown, referred = hide_env(job.env), {word.partition("=")[0] for word in secrets}
    return [name for name, value in job.env.items() if shown[name] != value and name not in referred]


def quantities(wanted: Resources) -> dict[str, str]:
    """Requests and limits of a container: CPU in whole or milli-cores, memory in bytes, whole GPUs."""
    cpu = f"{wanted.cpus:.0f}" if float(wanted.cpus).is_integer() else f"{round(wanted.cpus * 1000)}m"
    asked = {"cpu": cpu if wanted.cpus else "", "memory": str(wanted.memory or ""), words.GPU: f"{wanted.gpus:g}"}
    return {key: size for key, size in asked.items() if size not in ("", "0")}


def rayjob(options: KubernetesOptions, job: Job, name: str) -> dict[str, Any]:
    """The RayJob of this name: a Ray cluster that starts for the job and is deleted after it."""
    job = replace(job, env={JOB_VARIABLE: name, **job.env})
    spec: dict[str, Any] = {
        "entrypoint": entrypoint(job.command, options.workdir),
        "jobId": name,
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": round(options.ttl),
        "backoffLimit": options.attempts - 1,
    }
    if options.time:
        spec["activeDeadlineSeconds"] = words.parse_seconds(options.time)
    if not options.workdir:
        spec["runtimeEnvYAML"] = f"working_dir: file://{SENT}/{words.ARCHIVE}\n"
    spec["submitterPodTemplate"] = _submitter(options, job.name)
    spec["rayClusterSpec"] = _cluster(options, job, None if options.workdir else name, stops=name)
    return _object("RayJob", options, job.name, name, spec)


def raycluster(options: KubernetesOptions, job: Job, name: str) -> dict[str, Any]:
    """A RayCluster with the job's size, variables and image that stays until it is deleted; the command is not used."""
    return _object("RayCluster", options, job.name, name, _cluster(options, job, None, stops=""))


def raycluster_yaml(options: KubernetesOptions, name: str, resources: Resources) -> str:
    """The YAML of a RayCluster of this size that stays; `reprise submit --on ray` sends jobs to it."""
    return as_yaml(raycluster(options, Job(name, ("true",), resources), words.object_name(name)))


def as_yaml(manifest: Mapping[str, Any]) -> str:
    """A manifest as YAML, its keys in their order."""
    return yaml.safe_dump(manifest, sort_keys=False, width=2**20, allow_unicode=True)


def working_directory(name: str, packed: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The ConfigMap that carries a packed working directory (base64) to the pods of the RayJob of this name."""
    metadata = {"name": name, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": {words.ARCHIVE: packed}}


def labels(name: str) -> dict[str, str]:
    """Labels for `kubectl get -l`: our version and the job's name.

    Kubernetes' common label app.kubernetes.io/name is KubeRay's own on these pods: its services find the head by it.
    """
    return {"reprise/version": re.sub(r"[^A-Za-z0-9_.-]", "_", words.version("reprise")), "reprise/job": name}


def _object(kind: str, options: KubernetesOptions, job: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, **({"namespace": options.namespace} if options.namespace else {})}
    metadata["labels"] = labels(job)
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


def _cluster(options: KubernetesOptions, job: Job, sent: str | None, stops: str) -> dict[str, Any]:
    """A RayCluster's spec. `sent`: the ConfigMap with the working directory; `stops`: the job that ends with the head."""
    head = _node("ray-head", options, job, sent)
    ports = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
    [container] = head["spec"]["containers"]
    container["ports"] = [{"name": key, "containerPort": port} for key, port in ports.items()]
    if stops:  # whatever stops the head (suspension, a drained node), the job gets SIGTERM first and can save
        stop = ["ray", "job", "stop", "--address", DASHBOARD, stops]
        container["lifecycle"] = {"preStop": {"exec": {"command": stop}}}
        head["spec"]["terminationGracePeriodSeconds"] = round(options.grace) + 30
    spec: dict[str, Any] = {"rayVersion": options.ray or words.version("ray"), "authOptions": {"mode": "token"}}
    spec["headGroupSpec"] = {"rayStartParams": {}, "template": head}
    if (others := job.resources.nodes - 1) > 0:
        group: dict[str, Any] = {"groupName": "workers", "rayStartParams": {}}
        group |= {"replicas": others, "minReplicas": others, "maxReplicas": others}
        spec["workerGroupSpecs"] = [group | {"template": _node("ray-worker", options, job, sent)}]
    return spec


def _node(container: str, options: KubernetesOptions, job: Job, sent: str | None) -> dict[str, Any]:
    """The pod of one Ray node."""
    sizes = quantities(job.resources)
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for number, (claim, path) in enumerate(map(words.parse_volume, options.volumes)):
        volumes.append({"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": f"volume-{number}", "mountPath": path})
    if sent:
        volumes.append({"name": "working-dir", "configMap": {"name": sent}})
        mounts.append({"name": "working-dir", "mountPath": SENT, "readOnly": True})
    inner = {
        "env": environment(job.env, options.secrets, options.grace),
        "resources": {"requests": sizes, "limits": dict(sizes)},
        **({"volumeMounts": mounts} if mounts else {}),
    }
    pod = _pod(
        container, options, job.name, inner, (options.gpu_type,) if options.gpu_type and job.resources.gpus else ()
    )
    pod["spec"] |= {"volumes": volumes} if volumes else {}
    return pod


def _submitter(options: KubernetesOptions, job: str) -> dict[str, Any]:
    """The small pod that submits the command to Ray and prints its output; KubeRay fills in its command."""
    sizes = {"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    pod = _pod("ray-job-submitter", options, job, {"resources": sizes}, ())
    pod["spec"]["restartPolicy"] = "Never"
    return pod


def _pod(
    name: str, options: KubernetesOptions, job: str, container: Mapping[str, Any], more: Sequence[str]
) -> dict[str, Any]:
    """A pod of one container; `more` are further labels that its nodes must have."""
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    selector = dict(words.parse_label(word) for word in (*options.node_selector, *more))
    spec = {
        "serviceAccountName": options.service_account,
        "priorityClassName": options.priority,
        "nodeSelector": selector,
        "tolerations": [words.parse_toleration(word) for word in options.tolerations],
    }
    only = {"name": name, "image": options.image, "securityContext": locked, **container}
    return {"metadata": {"labels": labels(job)}, "spec": {k: v for k, v in spec.items() if v} | {"containers": [only]}}


def state_of(rayjob: Mapping[str, Any], submitter_ended: float | None = None) -> State:
    """The state of a RayJob, from its status and the seconds since its submitter ended (None while it runs).

    The driver's state (jobStatus) comes first, for KubeRay's own can be wrong or stuck. The job is `lost` where KubeRay
    gave up on a driver that it last saw running (kuberay#2314, #3257), or where the submitter ended and no state follows
    (#3860).
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
    """A time in Kubernetes' notation as seconds since 1970; 0 for ''."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
