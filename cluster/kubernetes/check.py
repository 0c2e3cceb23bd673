"""The reasons against a job that a Kubernetes cluster itself gives: what it lacks, forbids, or refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from cluster.job import Job, LauncherError
from cluster.kubernetes import rayjob, words
from cluster.kubernetes.api import NO_KUBERAY, Api, Forbidden, Missing
from cluster.ray_clusters.jobs_api import unfit

if TYPE_CHECKING:
    from cluster.kubernetes.launcher import Kubernetes

NEEDED = (
    ("create", "ray.io", "rayjobs"),
    ("get", "ray.io", "rayjobs"),
    ("patch", "ray.io", "rayjobs"),
    ("list", "", "pods"),
    ("get", "", "pods/log"),
)
TO_SEND = (("create", "", "configmaps"), ("patch", "", "configmaps"))
"""What is needed besides where the working directory is sent."""


def asked(place: Kubernetes, job: Job, api: Api) -> Iterator[str]:
    """The reasons that the cluster gives. What it does not let us look at is not held against the job.

    Raises:
        LauncherError: it does not answer.
    """
    yield from _namespace(api)
    if not _has_kuberay(api):
        yield NO_KUBERAY
    yield from _not_allowed(api, NEEDED + (() if place.workdir else TO_SEND))
    yield from _missing(place, api)
    if not place.autoscaled:
        yield from _nodes(place, job, api)


def refused(manifest: dict[str, Any], api: Api) -> list[str]:
    """What the cluster says to the very manifest, in a dry run that leaves nothing behind."""
    try:
        api.create(manifest, dry_run=True)
    except (Missing, Forbidden):  # said already
        return []
    except LauncherError as error:
        if "authOptions" in str(error):
            return ["KubeRay here is older than 1.5.1 and would start Ray without a token: upgrade it with helm."]
        return [_sentence(str(error))]
    return []


def _namespace(api: Api) -> Iterator[str]:
    try:
        api.ask(api.core.read_namespace, api.namespace)
    except Missing:
        yield f"The cluster has no namespace {api.namespace!r}: `kubectl create namespace {api.namespace}`."
    except Forbidden:
        pass


def _has_kuberay(api: Api) -> bool:
    try:
        found = api.ask(api.custom.get_api_resources, "ray.io", "v1")
    except Missing:
        return False
    except Forbidden:
        return True
    return any(resource.name == "rayjobs" for resource in found.resources)


def _not_allowed(api: Api, needed: tuple[tuple[str, str, str], ...]) -> Iterator[str]:
    denied = [f"{verb} {resource}" for verb, group, resource in needed if not _may(api, verb, group, resource)]
    if denied:
        yield (
            f"You may not {', '.join(denied)} in the namespace {api.namespace!r}: ask its owner for a role, or choose "
            "another namespace."
        )


def _may(api: Api, verb: str, group: str, resource: str) -> bool:
    """Source: Kubernetes, SelfSubjectAccessReview: who is logged in may always ask this of himself."""
    from kubernetes.client import AuthorizationV1Api

    kind, _, sub = resource.partition("/")
    wanted = {"namespace": api.namespace, "verb": verb, "group": group, "resource": kind, "subresource": sub}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in wanted.items() if value}},
    }
    review = partial(AuthorizationV1Api(api.client).create_self_subject_access_review, body)
    return bool(api.ask(review).status.allowed)


def _missing(place: Kubernetes, api: Api) -> Iterator[str]:
    """Named objects that are not there."""
    from kubernetes.client import SchedulingV1Api

    space, core = (api.namespace,), api.core
    wanted: list[tuple[str, str, Callable, tuple[str, ...]]] = []
    if place.service_account:
        wanted.append(("service account", place.service_account, core.read_namespaced_service_account, space))
    for claim, _ in map(words.volume_word, place.volumes):
        wanted.append(("PersistentVolumeClaim", claim, core.read_namespaced_persistent_volume_claim, space))
    if place.priority:
        wanted.append(("priority class", place.priority, SchedulingV1Api(api.client).read_priority_class, ()))
    for what, name, read, where in wanted:
        if _read(api, read, name, *where) is None:
            yield f"The cluster has no {what} {name!r}: create it, or name another."
    for _, name, key in map(words.secret_word, place.secrets):
        found = _read(api, core.read_namespaced_secret, name, *space)
        if found is None:
            yield f"The cluster has no Secret {name!r}: `kubectl create secret generic {name} --from-literal={key}=...`."
        elif found != "hidden" and key not in (found.data or {}):
            yield f"The Secret {name!r} has no key {key!r}; it has {', '.join(sorted(found.data or {})) or 'none'}."


def _read(api: Api, read: Callable, *names: str) -> Any:
    """The object; None where there is none, 'hidden' where we may not look."""
    try:
        return api.ask(read, *names)
    except Missing:
        return None
    except Forbidden:
        return "hidden"


def _nodes(place: Kubernetes, job: Job, api: Api) -> Iterator[str]:
    try:
        found = api.ask(api.core.list_node).items
    except Forbidden:
        return
    selector = dict(map(words.label_word, place.node_selector))
    if place.gpu_type and job.resources.gpus:
        selector |= dict([words.label_word(place.gpu_type)])
    fit = [
        node for node in found if selector.items() <= (node.metadata.labels or {}).items() and _open(place, job, node)
    ]
    if found and not fit:
        labelled = ", ".join(f"{key}={value}" for key, value in selector.items())
        yield (
            f"None of the cluster's {len(found)} nodes {f'has {labelled} and ' if labelled else ''}lets the job's pods in: "
            "see node_selector, gpu_type and tolerations."
        )
    else:
        yield from unfit(job.resources, [_room(node) for node in fit])


def _open(place: Kubernetes, job: Job, node: Any) -> bool:
    """Whether the node's taints let the job's pods in. Clusters add the toleration of the GPUs' own taint."""
    tolerated = list(map(words.toleration_word, place.tolerations))
    if job.resources.gpus:
        tolerated.append({"key": rayjob.GPU, "operator": "Exists"})
    taints = [taint for taint in node.spec.taints or [] if taint.effect != "PreferNoSchedule"]
    return all(any(_tolerates(word, taint) for word in tolerated) for taint in taints)


def _tolerates(word: dict[str, str], taint: Any) -> bool:
    right = word["operator"] == "Exists" or word["value"] == (taint.value or "")
    return word["key"] == taint.key and right and word.get("effect", taint.effect) == taint.effect


def _room(node: Any) -> dict[str, float]:
    """What pods can have of a node, under Ray's names."""
    from kubernetes.utils import parse_quantity

    has = node.status.allocatable or {}
    names = {"CPU": "cpu", "GPU": rayjob.GPU, "memory": "memory"}
    return {ours: float(parse_quantity(has.get(theirs, "0"))) for ours, theirs in names.items()}


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
