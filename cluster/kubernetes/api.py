"""Connection to a Kubernetes cluster through its official client: bounded waits, and each error as one sentence."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.job import LauncherError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, CoreV1Api, CustomObjectsApi

T = TypeVar("T")
INSIDE = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Folder with the account and the namespace that Kubernetes mounts into every pod."""


class Missing(LauncherError):
    """The cluster has no such object."""


class Forbidden(LauncherError):
    """We do not have the right."""


class Silent(LauncherError):
    """The cluster does not answer."""


class Api:
    """One cluster, found through a kubeconfig and context, or from within a pod.

    `timeout` is in seconds: the cluster must answer within it.
    """

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
        """Requests about pods, ConfigMaps and other core objects."""
        client = self.client  # raises first where the package is missing
        from kubernetes.client import CoreV1Api

        return CoreV1Api(client)

    @cached_property
    def custom(self) -> CustomObjectsApi:
        """Requests about objects of an API group, as plain dictionaries."""
        client = self.client
        from kubernetes.client import CustomObjectsApi

        return CustomObjectsApi(client)

    @cached_property
    def namespace(self) -> str:
        """The namespace that was given, else the context's own, else 'default'."""
        if self._namespace:
            return self._namespace
        if self._inside():
            return (INSIDE / "namespace").read_text().strip()
        return self._chosen["context"].get("namespace") or "default"

    @property
    def file(self) -> str:
        """Path of the kubeconfig: the one that was given, else KUBECONFIG; '' for ~/.kube/config."""
        given = self.kubeconfig or os.environ.get("KUBECONFIG", "")
        return os.pathsep.join(str(Path(one).expanduser().absolute()) for one in given.split(os.pathsep) if one)

    @property
    def current(self) -> str:
        """The context's name; '' inside a pod."""
        return "" if self._inside() else self._chosen["name"]

    @cached_property
    def _chosen(self) -> dict[str, Any]:
        """The context's entry in the kubeconfig."""
        self.client  # noqa: B018  raises first, with a clear message, where the file is wrong
        from kubernetes import config

        contexts, active = config.list_kube_config_contexts(self.kubeconfig or None)
        return next((one for one in contexts if one["name"] == self.context), active)

    def ask(self, call: Callable[..., T], *names: str) -> T:
        """The answer to one request: `call(*names)` with a bounded wait.

        Raises:
            Missing, Forbidden, Silent: see these classes.
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
