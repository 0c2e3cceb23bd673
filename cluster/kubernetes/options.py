"""The options of the Kubernetes backend: one frozen dataclass, whose docstrings are the help of the command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KubernetesOptions:
    """Which cluster and namespace to use, and how the pods of a job are made."""

    image: str = ""
    """Image of the pods, REGISTRY/NAME:TAG; its tag must hold reprise's version."""
    namespace: str = ""
    """Namespace of the jobs; else the context's own."""
    context: str = ""
    """Context of the kubeconfig; else its current one."""
    kubeconfig: str = ""
    """File that describes how to reach the cluster; else KUBECONFIG, the pod's own account, ~/.kube/config."""
    service_account: str = ""
    """Account that the pods run under, for instance to pull the image or to reach a bucket."""
    node_selector: tuple[str, ...] = ()
    """Labels that the nodes must have, LABEL=VALUE."""
    tolerations: tuple[str, ...] = ()
    """Taints of nodes that the pods tolerate: KEY, KEY=VALUE, KEY:NoSchedule or KEY=VALUE:NoSchedule."""
    gpu_type: str = ""
    """Label of the nodes with the right GPUs, LABEL=VALUE; used where GPUs are asked for."""
    volumes: tuple[str, ...] = ()
    """PersistentVolumeClaims and where the pods mount them, CLAIM:/PATH."""
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
    """Whether the cluster adds nodes when they are needed: then the sizes of nodes are not checked."""
    timeout: float = 10.0
    """Seconds in which the cluster must answer."""
