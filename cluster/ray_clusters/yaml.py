"""The YAML of `ray up` for a cluster of machines: pure functions, closed to the network by default.

Source: Ray's documentation, "Cluster YAML Configuration Options"; the installed Ray's `ray-schema.json` decides.
Differs: Ray's own examples open the dashboard on 0.0.0.0 and send no token; here it listens on the head only, machines get no
public address where the cloud allows that, and every node reads the token from a file that is copied to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from cluster.job import LauncherError

Provider = Literal["local", "aws", "gcp"]
TOKEN = "~/.ray-token"
"""Path of the token on every node."""
AUTH = f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/{TOKEN[2:]}"
HEAD = (
    "--head",
    "--port=6379",
    "--dashboard-host=127.0.0.1",
    "--autoscaling-config=~/ray_bootstrap_config.yaml",
    "--disable-usage-stats",
)
USERS = {"local": "", "aws": "ubuntu", "gcp": "ubuntu"}
REGIONS = {"local": "", "aws": "us-west-2", "gcp": "us-west1"}
MACHINES = {"local": "", "aws": "m5.xlarge", "gcp": "n2-standard-4"}
NOTES = {
    "local": """\
# Between these machines, and from nowhere else, all TCP ports must be open; from outside port 22 alone.
""",
    "aws": """\
# Ray makes a security group that lets the nodes reach each other and the world reach port 22, and nothing else. Do not open
# 6379, 8265 or 10001 there: `ray dashboard FILE` brings the dashboard to this machine through SSH. Nodes have no public
# address (use_internal_ips): run `ray up` from within the network or set ssh_proxy_command.
""",
    "gcp": """\
# The network's firewall must let the nodes reach each other and you reach port 22, and nothing else. Do not open 6379, 8265
# or 10001: `ray dashboard FILE` brings the dashboard to this machine through SSH. Nodes are reached by their internal
# addresses (use_internal_ips): run `ray up` from within the network.
""",
}


@dataclass(frozen=True)
class Machines:
    """The cluster that `ray up` should start."""

    name: str
    provider: Provider
    user: str = ""
    """Name for the SSH login; '' for the provider's usual one."""
    key: str = ""
    """File of the private SSH key; '' for the one that SSH or Ray finds."""
    token: str = ""
    """File of the token on this machine."""
    head: str = ""
    """Address of the head; only for the provider local."""
    workers: tuple[str, ...] = ()
    """Addresses of the other machines; only for the provider local."""
    most: int = 2
    """The most machines besides the head; those of the cloud start when they are needed."""
    machine: str = ""
    """Kind of machine in the cloud."""
    region: str = ""
    project: str = ""
    """Google's project."""
    idle_minutes: float = 10
    """Minutes after which an idle machine is released."""
    setup: tuple[str, ...] = ()
    """Shell commands that install Reprise on a node; they are sent unchanged."""


def render(wanted: Machines) -> str:
    """The YAML, with a comment about open ports at its top.

    Raises:
        LauncherError: a field is wrong or missing.
    """
    import yaml

    reasons = refused(wanted)
    if reasons:
        raise LauncherError(" ".join(reasons))
    title = f"# ray up {wanted.name}.yaml      ray down {wanted.name}.yaml\n"
    return title + NOTES[wanted.provider] + yaml.safe_dump(config(wanted), sort_keys=False, width=120)


def refused(wanted: Machines) -> list[str]:
    """Every reason why these fields make no cluster."""
    local, gcp = wanted.provider == "local", wanted.provider == "gcp"
    checks = [
        (wanted.provider in NOTES, f"--provider is local, aws or gcp, not {wanted.provider!r}."),
        (
            bool(re.fullmatch(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", wanted.name)),
            f"{wanted.name!r} cannot name a cluster: use a-z, 0-9 and '-'.",
        ),
        (bool(wanted.token), "--token must name the file that holds the token: `openssl rand -hex 32` makes one."),
        (not local or bool(wanted.head), "--head must name the head's address."),
        (not local or bool(wanted.user), "--user must say who logs in on these machines."),
        (not gcp or bool(wanted.project), "--project must name Google's project."),
        (local or not (wanted.head or wanted.workers), "--head and --workers belong to --provider local."),
        (wanted.most >= 0, f"--most must be at least 0, not {wanted.most}."),
        (wanted.idle_minutes > 0, f"--idle_minutes must be more than 0, not {wanted.idle_minutes:g}."),
    ]
    checks += [
        (_is_host(h), f"{h!r} is no host: write a name or an address.") for h in (wanted.head, *wanted.workers) if h
    ]
    return [reason for holds, reason in checks if not holds]


def config(wanted: Machines) -> dict[str, Any]:
    """The content of the YAML, as plain values.

    Each word of the user is a value of its own; the commands that start Ray are fixed.
    """
    local = wanted.provider == "local"
    auth = {"ssh_user": wanted.user or USERS[wanted.provider]} | ({"ssh_private_key": wanted.key} if wanted.key else {})
    common = {"cluster_name": wanted.name, "max_workers": len(wanted.workers) if local else wanted.most}
    common |= {"upscaling_speed": 1.0, "idle_timeout_minutes": wanted.idle_minutes}
    common |= {"provider": _provider(wanted), "auth": auth}
    if not local:
        common |= {"available_node_types": _node_types(wanted), "head_node_type": "head"}
    return common | {
        "file_mounts": {TOKEN: wanted.token},
        "initialization_commands": [],
        "setup_commands": [f"chmod 600 {TOKEN}", *wanted.setup],
        "head_start_ray_commands": ["ray stop", f"{AUTH}; ulimit -n 65536; ray start {' '.join(HEAD)}"],
        "worker_start_ray_commands": [
            "ray stop",
            f"{AUTH}; ulimit -n 65536; ray start --address=$RAY_HEAD_IP:6379 --disable-usage-stats",
        ],
    }


def _provider(wanted: Machines) -> dict[str, Any]:
    region = wanted.region or REGIONS[wanted.provider]
    if wanted.provider == "local":
        return {"type": "local", "head_ip": wanted.head, "worker_ips": list(wanted.workers)}
    if wanted.provider == "aws":
        return {"type": "aws", "region": region, "cache_stopped_nodes": False, "use_internal_ips": True}
    zone = f"{region}-a"
    return {
        "type": "gcp",
        "region": region,
        "availability_zone": zone,
        "project_id": wanted.project,
        "use_internal_ips": True,
    }


def _node_types(wanted: Machines) -> dict[str, Any]:
    """The node types of the head and of the workers."""
    machine = wanted.machine or MACHINES[wanted.provider]
    node = _aws if wanted.provider == "aws" else _gcp
    return {
        "head": {"resources": {}, "node_config": node(machine)},
        "worker": {"min_workers": 0, "max_workers": wanted.most, "resources": {}, "node_config": node(machine)},
    }


def _aws(machine: str) -> dict[str, Any]:
    """The configuration of an AWS machine, with IMDSv2 only: a job that is made to fetch an address cannot fetch credentials."""
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 256, "Encrypted": True}}
    return {
        "InstanceType": machine,
        "BlockDeviceMappings": [disk],
        "MetadataOptions": {"HttpTokens": "required"},
    }


def _gcp(machine: str) -> dict[str, Any]:
    """The configuration of a Google machine."""
    image = "projects/deeplearning-platform-release/global/images/family/common-cpu"
    disk = {"boot": True, "autoDelete": True, "type": "PERSISTENT"}
    return {
        "machineType": machine,
        "disks": [disk | {"initializeParams": {"diskSizeGb": 100, "sourceImage": image}}],
    }


def _is_host(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?", text))
