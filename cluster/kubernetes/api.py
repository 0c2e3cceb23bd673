"""The API of a Kubernetes cluster through its official client: found, asked with bounded waits, errors in one sentence."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.job import LauncherError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, CoreV1Api, CustomObjectsApi

T = TypeVar("T")
NO_KUBERAY = "KubeRay is not installed on this cluster: install it with helm, as docs/kubernetes.md says."
QUIET = 300.0
"""Seconds without a word after which a log that is followed is asked for again; the connection may be dead."""
INSIDE = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What Kubernetes gives to every pod."""


class Missing(LauncherError):
    """The cluster has no such object."""


class Forbidden(LauncherError):
    """The cluster does not let us."""


class Silent(LauncherError):
    """The cluster does not answer."""


class Api:
    """One cluster. `timeout`: seconds in which it must answer."""

    def __init__(self, kubeconfig: str, context: str, namespace: str, timeout: float) -> None:
        self.kubeconfig, self.context, self.timeout = kubeconfig, context, timeout
        self._namespace = namespace

    @cached_property
    def client(self) -> ApiClient:
        """The official client.

        Raises:
            LauncherError: it is not installed, or no cluster is configured.
        """
        try:
            from kubernetes import client, config
        except ImportError:
            raise LauncherError("Kubernetes needs its Python client: pip install 'reprise[kubernetes]'.") from None
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        settings = client.Configuration()
        try:
            if self._inside():
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(self.kubeconfig or None, self.context or None, settings, persist_config=False)
        except (config.ConfigException, OSError, ValueError) as error:
            text = f"No Kubernetes cluster is configured ({_short(error)}): name a kubeconfig or context."
            raise LauncherError(text) from None
        settings.retries = 0
        return client.ApiClient(settings)

    @cached_property
    def core(self) -> CoreV1Api:
        """Pods, ConfigMaps and so on."""
        client = self.client  # says first where the package is missing
        from kubernetes.client import CoreV1Api

        return CoreV1Api(client)

    @cached_property
    def custom(self) -> CustomObjectsApi:
        """Everything that has a group, as plain dictionaries."""
        client = self.client
        from kubernetes.client import CustomObjectsApi

        return CustomObjectsApi(client)

    @cached_property
    def namespace(self) -> str:
        """As given, else the context's own, else 'default'."""
        if self._namespace:
            return self._namespace
        if self._inside():
            return (INSIDE / "namespace").read_text().strip()
        return self._chosen["context"].get("namespace") or "default"

    @property
    def file(self) -> str:
        """The kubeconfig: as given, else KUBECONFIG, '' for the usual one."""
        given = self.kubeconfig or os.environ.get("KUBECONFIG", "")
        return os.pathsep.join(str(Path(one).expanduser().absolute()) for one in given.split(os.pathsep) if one)

    @property
    def current(self) -> str:
        """The context's name; '' inside a pod."""
        return "" if self._inside() else self._chosen["name"]

    @cached_property
    def _chosen(self) -> dict[str, Any]:
        """The context as the kubeconfig has it."""
        self.client  # noqa: B018  says first, and clearly, what is wrong with the file
        from kubernetes import config

        contexts, active = config.list_kube_config_contexts(self.kubeconfig or None)
        return next((one for one in contexts if one["name"] == self.context), active)

    def ask(self, call: Callable[..., T], *names: str) -> T:
        """One request.

        Raises:
            Missing, Forbidden, Silent: see there.
            LauncherError: the cluster refuses for another reason.
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call(*names, _request_timeout=(self.timeout, self.timeout))  # older clients ignore a single float
        except ApiException as error:
            raise self._refused(error) from None
        except (HTTPError, OSError) as error:
            raise Silent(f"No Kubernetes cluster answers at {self.address} ({_short(error)}): {_HINT}") from None

    def create(self, manifest: dict[str, Any], dry_run: bool = False) -> dict[str, Any]:
        """Creates a RayJob, refused where the cluster does not know each of its fields; as the cluster has it."""
        more = {"field_validation": "Strict", **({"dry_run": "All"} if dry_run else {})}
        create = partial(self.custom.create_namespaced_custom_object, **more)
        try:
            return self.ask(partial(create, "ray.io", "v1", self.namespace, "rayjobs", manifest))
        except Missing:
            raise Missing(NO_KUBERAY) from None

    def rayjob(self, name: str) -> dict[str, Any]:
        """The RayJob of this name.

        Raises:
            Missing: there is none.
        """
        try:
            return self.ask(self.custom.get_namespaced_custom_object, "ray.io", "v1", self.namespace, "rayjobs", name)
        except Missing:
            raise Missing(f"There is no job {name!r} in the namespace {self.namespace!r}.") from None

    def patch(self, name: str, change: dict[str, Any]) -> None:
        """Changes some fields of a RayJob."""
        patch = self.custom.patch_namespaced_custom_object
        self.ask(partial(patch, "ray.io", "v1", self.namespace, "rayjobs", name, change))

    def send(self, config_map: dict[str, Any]) -> None:
        """Creates a ConfigMap."""
        self.ask(partial(self.core.create_namespaced_config_map, self.namespace, config_map))

    def take_back(self, name: str) -> None:
        """Deletes a ConfigMap, where that can be done."""
        with contextlib.suppress(LauncherError):
            self.ask(self.core.delete_namespaced_config_map, name, self.namespace)

    def give_to(self, name: str, rayjob: dict[str, Any]) -> None:
        """Lets a ConfigMap go when the RayJob goes; where that cannot be done, a small object stays."""
        owner = {key: rayjob[key] for key in ("apiVersion", "kind")}
        owner |= {key: rayjob["metadata"][key] for key in ("name", "uid")}
        patch = partial(self.core.patch_namespaced_config_map, name, self.namespace)
        with contextlib.suppress(LauncherError):
            self.ask(partial(patch, {"metadata": {"ownerReferences": [owner]}}))

    def pods(self, selector: str) -> list[Any]:
        """The pods with these labels, oldest first."""
        listed = partial(self.core.list_namespaced_pod, label_selector=selector)
        return sorted(self.ask(listed, self.namespace).items, key=lambda pod: pod.metadata.creation_timestamp)

    def submitter_ended(self, name: str) -> float | None:
        """Seconds since the RayJob's submitter ended; None while it runs, or where we may not look."""
        get = self.custom.get_namespaced_custom_object
        try:
            job = self.ask(get, "batch", "v1", self.namespace, "jobs", name)
        except (Missing, Forbidden):
            return None
        for one in job.get("status", {}).get("conditions", []):
            if one["type"] in ("Complete", "Failed") and one["status"] == "True":
                return time.time() - datetime.fromisoformat(one["lastTransitionTime"]).timestamp()
        return None

    def words(self, pod: str, follow: bool) -> Iterator[bytes]:
        """What a pod printed from its beginning; Silent where the connection breaks."""
        from urllib3.exceptions import HTTPError

        waits = (self.timeout, QUIET if follow else self.timeout)
        read = partial(self.core.read_namespaced_pod_log, follow=follow, _preload_content=False)
        answer = self.ask(lambda *names, _request_timeout: read(*names, _request_timeout=waits), pod, self.namespace)
        try:
            yield from answer.stream(65536)
        except (HTTPError, OSError):
            raise Silent(f"The connection to {self.address} broke: ask for the logs again.") from None
        finally:
            answer.close()

    def execute(self, pod: str, container: str, command: list[str]) -> int:
        """Runs a command in a pod and returns its exit code.

        Raises:
            LauncherError: it could not be run, or did not end in half a minute.
        """
        from kubernetes.stream import stream

        def call(*names: str, _request_timeout: tuple[float, float]) -> Any:
            exec_ = self.core.connect_get_namespaced_pod_exec
            wanted = {"container": container, "command": command, "stdin": False, "stdout": True, "stderr": True}
            return stream(exec_, *names, **wanted, tty=False, _preload_content=False, _request_timeout=_request_timeout)

        running = self.ask(call, pod, self.namespace)
        try:
            running.run_forever(timeout=30)
            if running.is_open():
                raise LauncherError(f"{' '.join(command[:3])} did not end in the pod {pod}.")
            return running.returncode
        finally:
            running.close()

    @property
    def address(self) -> str:
        """The server's URL."""
        return self.client.configuration.host

    def _inside(self) -> bool:
        asked = self.kubeconfig or self.context or os.environ.get("KUBECONFIG")
        return not asked and "KUBERNETES_SERVICE_HOST" in os.environ and (INSIDE / "token").exists()

    def _refused(self, error: Any) -> LauncherError:
        text = _message(error)
        if error.status == 404:
            return Missing(text)
        if error.status == 403:
            return Forbidden(f"The Kubernetes cluster at {self.address} does not let you: {text}")
        if error.status == 401:
            return LauncherError(f"The Kubernetes cluster at {self.address} does not know you: log in to it again.")
        return LauncherError(f"The Kubernetes cluster at {self.address} refused: {text}")


_HINT = "see whether `kubectl cluster-info` answers, and name another with kubeconfig or context."


def _message(error: Any) -> str:
    try:
        text = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        text = str(error.reason or error.body or error)
    return " ".join(text.split())[:500]


def _short(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split())[-120:]
