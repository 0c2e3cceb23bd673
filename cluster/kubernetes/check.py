"""Reasons against a job that a Kubernetes cluster itself gives: what it lacks, forbids or refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cluster.fit import unfit
from cluster.job import Job, LauncherError
from cluster.kubernetes import words
from cluster.kubernetes.api import Api, Forbidden, Missing
from cluster.kubernetes.objects import NO_KUBERAY, create_rayjob
from cluster.kubernetes.options import KubernetesOptions

NEEDED = (
    ("create", "ray.io", "rayjobs"),
    ("get", "ray.io", "rayjobs"),
    ("patch", "ray.io", "rayjobs"),
    ("list", "", "pods"),
    ("get", "", "pods/log"),
)
TO_SEND = (("create", "", "configmaps"), ("patch", "", "configmaps"))
"""Further rights that are needed where the working directory is sent."""


def reasons_against(options: KubernetesOptions, job: Job, api: Api) -> Iterator[str]:
    """Every reason that the cluster gives. An object that we may not read is no reason.

    Raises:
        LauncherError: it does not answer.
    """
    yield from _namespace(api)
    if not _has_kuberay(api):
        yield NO_KUBERAY
    yield from _not_allowed(api, NEEDED + (() if options.workdir else TO_SEND))
    yield from _missing(options, api)
    if not options.autoscaled:
        yield from _nodes(options, job, api)


def refusals(manifest: dict[str, Any], api: Api) -> list[str]:
    """The cluster's errors about this manifest, from a dry run that creates nothing."""
    try:
        create_rayjob(api, manifest, dry_run=True)
    except (Missing, Forbidden):  # `reasons_against` reports these
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
    """Whether we have this right. Source: Kubernetes, SelfSubjectAccessReview, which every user may create."""
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


def _missing(options: KubernetesOptions, api: Api) -> Iterator[str]:
    """Reasons about objects that the options name and the cluster does not have."""
    from kubernetes.client import SchedulingV1Api

    space, core = (api.namespace,), api.core
    wanted: list[tuple[str, str, Callable, tuple[str, ...]]] = []
    if options.service_account:
        wanted.append(("service account", options.service_account, core.read_namespaced_service_account, space))
    for claim, _ in map(words.parse_volume, options.volumes):
        wanted.append(("PersistentVolumeClaim", claim, core.read_namespaced_persistent_volume_claim, space))
    if options.priority:
        wanted.append(("priority class", options.priority, SchedulingV1Api(api.client).read_priority_class, ()))
    for what, name, read, where in wanted:
        if _read(api, read, name, *where) is None:
            yield f"The cluster has no {what} {name!r}: create it, or name another."
    for _, name, key in map(words.parse_secret, options.secrets):
        found = _read(api, core.read_namespaced_secret, name, *space)
        if found is None:
            yield f"The cluster has no Secret {name!r}: `kubectl create secret generic {name} --from-literal={key}=...`."
        elif found != "hidden" and key not in (found.data or {}):
            yield f"The Secret {name!r} has no key {key!r}; it has {', '.join(sorted(found.data or {})) or 'none'}."


def _read(api: Api, read: Callable, *names: str) -> Any:
    """The object; None where there is none, 'hidden' where we may not read it."""
    try:
        return api.ask(read, *names)
    except Missing:
        return None
    except Forbidden:
        return "hidden"


def _nodes(options: KubernetesOptions, job: Job, api: Api) -> Iterator[str]:
    try:
        found = api.ask(api.core.list_node).items
    except Forbidden:
        return
    selector = dict(map(words.parse_label, options.node_selector))
    if options.gpu_type and job.resources.gpus:
        selector |= dict([words.parse_label(options.gpu_type)])
    fit = [
        node for node in found if selector.items() <= (node.metadata.labels or {}).items() and _open(options, job, node)
    ]
    if found and not fit:
        labelled = ", ".join(f"{key}={value}" for key, value in selector.items())
        yield (
            f"None of the cluster's {len(found)} nodes {f'has {labelled} and ' if labelled else ''}admits the job's pods: "
            "see node_selector, gpu_type and tolerations."
        )
    else:
        yield from unfit(job.resources, [_room(node) for node in fit])


def _open(options: KubernetesOptions, job: Job, node: Any) -> bool:
    """Whether the node's taints admit the job's pods. Clusters add the toleration of the GPUs' own taint themselves."""
    tolerated = list(map(words.parse_toleration, options.tolerations))
    if job.resources.gpus:
        tolerated.append({"key": words.GPU, "operator": "Exists"})
    taints = [taint for taint in node.spec.taints or [] if taint.effect != "PreferNoSchedule"]
    return all(any(_tolerates(word, taint) for word in tolerated) for taint in taints)


def _tolerates(word: dict[str, str], taint: Any) -> bool:
    right = word["operator"] == "Exists" or word["value"] == (taint.value or "")
    return word["key"] == taint.key and right and word.get("effect", taint.effect) == taint.effect


def _room(node: Any) -> dict[str, float]:
    """The resources that a node has for pods, under Ray's names."""
    from kubernetes.utils import parse_quantity

    has = node.status.allocatable or {}
    names = {"CPU": "cpu", "GPU": words.GPU, "memory": "memory"}
    return {ours: float(parse_quantity(has.get(theirs, "0"))) for ours, theirs in names.items()}


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
