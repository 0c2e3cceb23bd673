"""Requests about the objects of a job: its RayJob, the ConfigMap with its files, its pods and their logs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from cluster.job import LauncherError
from cluster.kubernetes.api import Api, Forbidden, Missing, Silent

NO_KUBERAY = "KubeRay is not installed on this cluster: install it with helm, as docs/kubernetes.md says."
QUIET = 300.0
"""Seconds without output after which a followed log is requested again; the connection may be dead."""
RAYJOBS = ("ray.io", "v1")
"""API group and version of RayJobs."""


def create_rayjob(api: Api, manifest: dict[str, Any], dry_run: bool = False) -> dict[str, Any]:
    """Create a RayJob, strictly: the cluster refuses a field that it does not know.

    Args:
        api: the cluster.
        manifest: the RayJob.
        dry_run: let the cluster check the manifest and create nothing.

    Returns:
        The RayJob as the cluster has it.

    Raises:
        Missing: KubeRay is not installed.
        LauncherError: the cluster refuses.
    """
    more = {"field_validation": "Strict", **({"dry_run": "All"} if dry_run else {})}
    create = partial(api.custom.create_namespaced_custom_object, **more)
    try:
        return api.ask(partial(create, *RAYJOBS, api.namespace, "rayjobs", manifest))
    except Missing:
        raise Missing(NO_KUBERAY) from None


def read_rayjob(api: Api, name: str) -> dict[str, Any]:
    """The RayJob of this name.

    Raises:
        Missing: there is none.
    """
    try:
        return api.ask(api.custom.get_namespaced_custom_object, *RAYJOBS, api.namespace, "rayjobs", name)
    except Missing:
        raise Missing(f"There is no job {name!r} in the namespace {api.namespace!r}.") from None


def patch_rayjob(api: Api, name: str, change: dict[str, Any]) -> None:
    """Change some fields of a RayJob."""
    patch = api.custom.patch_namespaced_custom_object
    api.ask(partial(patch, *RAYJOBS, api.namespace, "rayjobs", name, change))


def create_config_map(api: Api, manifest: dict[str, Any]) -> None:
    """Create a ConfigMap."""
    api.ask(partial(api.core.create_namespaced_config_map, api.namespace, manifest))


def delete_config_map(api: Api, name: str) -> None:
    """Delete a ConfigMap; an error is ignored."""
    with contextlib.suppress(LauncherError):
        api.ask(api.core.delete_namespaced_config_map, name, api.namespace)


def set_owner(api: Api, config_map: str, rayjob: dict[str, Any]) -> None:
    """Let the cluster delete a ConfigMap together with its RayJob; where this fails, a small object stays."""
    owner = {key: rayjob[key] for key in ("apiVersion", "kind")}
    owner |= {key: rayjob["metadata"][key] for key in ("name", "uid")}
    patch = partial(api.core.patch_namespaced_config_map, config_map, api.namespace)
    with contextlib.suppress(LauncherError):
        api.ask(partial(patch, {"metadata": {"ownerReferences": [owner]}}))


def pods(api: Api, selector: str) -> list[Any]:
    """The pods with these labels (`label=value,...`), oldest first."""
    listed = partial(api.core.list_namespaced_pod, label_selector=selector)
    return sorted(api.ask(listed, api.namespace).items, key=lambda pod: pod.metadata.creation_timestamp)


def seconds_since_submitter_ended(api: Api, name: str) -> float | None:
    """Seconds since the submitter of a RayJob ended; None while it runs, or where we may not read it."""
    get = api.custom.get_namespaced_custom_object
    try:
        job = api.ask(get, "batch", "v1", api.namespace, "jobs", name)
    except (Missing, Forbidden):
        return None
    for one in job.get("status", {}).get("conditions", []):
        if one["type"] in ("Complete", "Failed") and one["status"] == "True":
            return time.time() - datetime.fromisoformat(one["lastTransitionTime"]).timestamp()
    return None


def pod_log(api: Api, pod: str, follow: bool) -> Iterator[bytes]:
    """Pieces of a pod's output from its beginning; with `follow`, until the pod ends.

    Raises:
        Silent: the connection broke.
    """
    from urllib3.exceptions import HTTPError

    waits = (api.timeout, QUIET if follow else api.timeout)
    read = partial(api.core.read_namespaced_pod_log, follow=follow, _preload_content=False)
    answer = api.ask(lambda *names, _request_timeout: read(*names, _request_timeout=waits), pod, api.namespace)
    try:
        yield from answer.stream(65536)
    except (HTTPError, OSError):
        raise Silent(f"The connection to {api.address} broke: ask for the logs again.") from None
    finally:
        answer.close()


def execute(api: Api, pod: str, container: str, command: list[str]) -> int:
    """Run a command in a pod and return its exit code.

    Raises:
        LauncherError: it could not be run, or did not end in half a minute.
    """
    from kubernetes.stream import stream

    def call(*names: str, _request_timeout: tuple[float, float]) -> Any:
        exec_ = api.core.connect_get_namespaced_pod_exec
        wanted = {"container": container, "command": command, "stdin": False, "stdout": True, "stderr": True}
        return stream(exec_, *names, **wanted, tty=False, _preload_content=False, _request_timeout=_request_timeout)

    running = api.ask(call, pod, api.namespace)
    try:
        running.run_forever(timeout=30)
        if running.is_open():
            raise LauncherError(f"{' '.join(command[:3])} did not end in the pod {pod}.")
        return running.returncode
    finally:
        running.close()
