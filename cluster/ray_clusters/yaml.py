"""A cluster of machines, as the YAML of `ray up`: rendered purely, closed by default.

Source: Ray's documentation, "Cluster YAML Configuration Options"; the installed Ray's `ray-schema.json` has the last word.
Differs: Ray's own examples open the dashboard on 0.0.0.0 and send no token; here it listens on the head alone, machines get
no public address where the cloud can do without, and every node reads the token from a file that is sent along.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from cluster.job import LauncherError

Provider = Literal["local", "aws", "gcp"]
TOKEN = "~/.ray-token"
"""Where the token lies on every node."""
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
    """What `ray up` is to start."""

    name: str
    provider: Provider
    user: str = ""
    """Who logs in by SSH; '' for the provider's usual one."""
    key: str = ""
    """File of the private SSH key; '' for what SSH, or Ray, finds."""
    token: str = ""
    """File of the token on this machine."""
    head: str = ""
    """Address of the head: local alone."""
    workers: tuple[str, ...] = ()
    """Addresses of the others: local alone."""
    most: int = 2
    """Machines besides the head, at most; those of the cloud start when they are wanted."""
    machine: str = ""
    """Kind of machine in the cloud."""
    region: str = ""
    project: str = ""
    """Google's."""
    idle_minutes: float = 10
    """After which a machine that has nothing to do is given back."""
    setup: tuple[str, ...] = ()
    """Commands of the shell that install Reprise on a node; they are yours and go there as they are."""


def render(wanted: Machines) -> str:
    """The YAML, with what is to be known about ports above it.

    Raises:
        LauncherError: a field that cannot be, or is missing.
    """
    import yaml

    reasons = refused(wanted)
    if reasons:
        raise LauncherError(" ".join(reasons))
    title = f"# ray up {wanted.name}.yaml      ray down {wanted.name}.yaml\n"
    return title + NOTES[wanted.provider] + yaml.safe_dump(config(wanted), sort_keys=False, width=120)


def refused(wanted: Machines) -> list[str]:
    """Every reason why these machines cannot be written down."""
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
    """What the YAML says, as plain values.

    Every word of a user's stands as a value of its own; those that start Ray are fixed.
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
    """The head, which takes no work from others, and the workers."""
    machine = wanted.machine or MACHINES[wanted.provider]
    node = _aws if wanted.provider == "aws" else _gcp
    return {
        "head": {"resources": {}, "node_config": node(machine)},
        "worker": {"min_workers": 0, "max_workers": wanted.most, "resources": {}, "node_config": node(machine)},
    }


def _aws(machine: str) -> dict[str, Any]:
    """IMDSv2 alone: a job that fetches an address for a stranger cannot fetch the machine's credentials."""
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 256, "Encrypted": True}}
    return {
        "InstanceType": machine,
        "BlockDeviceMappings": [disk],
        "MetadataOptions": {"HttpTokens": "required"},
    }


def _gcp(machine: str) -> dict[str, Any]:
    image = "projects/deeplearning-platform-release/global/images/family/common-cpu"
    disk = {"boot": True, "autoDelete": True, "type": "PERSISTENT"}
    return {
        "machineType": machine,
        "disks": [disk | {"initializeParams": {"diskSizeGb": 100, "sourceImage": image}}],
    }


def _is_host(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?", text))
