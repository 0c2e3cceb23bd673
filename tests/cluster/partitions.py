"""Hosts that are network namespaces on one bridge, with processes of their own; a host's cable can be pulled. Needs root.

They share this machine's files, as hosts share storage.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.waiting import until

OURS = f"reprise{os.getpid()}"
SWITCH = f"{OURS}s"
NET = "10.77.0"
TRY = f"{OURS}t"
READY = "Ray runtime started."
SOON = {"initial_delay_ms": 0, "period_ms": 300, "timeout_ms": 1000, "failure_threshold": 5}
"""How soon Ray misses a node: within some 7 s."""
ENV = {f"RAY_health_check_{name}": str(value) for name, value in SOON.items()}
ENV |= {
    "RAY_AUTH_MODE": "disabled",
    "RAY_ADDRESS": "",
    "GLOO_SOCKET_IFNAME": "eth0",  # all have the name of this machine, by which gloo would look for them
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(__file__).parents[2]),  # a host has no working directory of ours
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}


@functools.cache
def impossible() -> str:
    """Why there can be no such hosts here; '' where there can."""
    missing = [tool for tool in ("ip", "nsenter", "unshare") if not shutil.which(tool)]
    if os.geteuid() or missing:
        return f"network namespaces need root and {', '.join(missing) or 'its rights'}"
    made = subprocess.run(["ip", "netns", "add", TRY], capture_output=True, text=True)
    inside = f"ip netns exec {TRY} unshare --pid --fork --mount-proc ip link add x type veth peer name y"
    done = subprocess.run(inside.split(), capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", TRY], capture_output=True)
    return (made.stderr + done.stderr).strip()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Host:
    """One host; its first process reaps what others leave, and all end with it."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name, self.address, self.port = f"{OURS}n{number}", f"{NET}.{number + 1}", f"port{number}"
        self.log, self.temp = folder / f"{number}.txt", folder / str(number)
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "add", "eth0", "type", "veth", "peer", "name", self.port, "netns", SWITCH)
        ip("-n", SWITCH, "link", "set", self.port, "master", "bridge")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.name, "link", "set", device, "up")
        ip("-n", self.name, "route", "add", "default", "dev", "eth0")  # by which Ray finds its own address
        self.link(up=True)
        inside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", "sleep infinity & wait"]
        self.leader = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.name}", *inside])
        children = Path(f"/proc/{self.leader.pid}/task/{self.leader.pid}/children")
        self.init = int(until(lambda: children.read_text().split())[0])
        until(lambda: "bash" in Path(f"/proc/{self.init}/cmdline").read_text())

    def link(self, *, up: bool) -> None:
        """Plug the cable in, or pull it."""
        ip("-n", SWITCH, "link", "set", self.port, "up" if up else "down")

    def start(self, *command: object, **more: object) -> subprocess.Popen:
        """A process on this host."""
        line = ["nsenter", f"--target={self.init}", "--net", "--pid", "--mount", *map(str, command)]
        return subprocess.Popen(line, env=os.environ | ENV, text=True, stdin=subprocess.DEVNULL, **more)

    def reprise(self, *words: object, out: Path) -> subprocess.Popen:
        """`reprise words...` on this host, both its streams into a file."""
        with open(out, "a") as file:
            return self.start(sys.executable, "-m", "ray_jobs.cli", *words, stdout=file, stderr=subprocess.STDOUT)

    def ray(self, cpus: int, head: str = "") -> None:
        """Begin a Ray cluster, or join that of `head`; returns when it has."""
        place = [f"--address={head}"] if head else ["--head", "--port=6379", "--include-dashboard=false"]
        fixed = [
            "--block",
            f"--num-cpus={cpus}",
            "--num-gpus=0",
            "--object-store-memory=80000000",
            "--disable-usage-stats",
        ]
        begun = self.log.read_text().count(READY) if self.log.exists() else 0
        command = [Path(sys.executable).with_name("ray"), "start", *place, *fixed]
        with open(self.log, "a") as out:
            where = [f"--node-ip-address={self.address}", f"--temp-dir={self.temp}"]
            process = self.start(*command, *where, stdout=out, stderr=subprocess.STDOUT)
        until(lambda: process.poll() is not None or self.log.read_text().count(READY) > begun, 60)
        assert process.poll() is None, self.log.read_text()

    def pids(self, word: str) -> list[int]:
        """Processes of this host, as numbered outside, in whose command line a word stands."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._runs(pid, word)]

    def _runs(self, pid: int, word: str) -> bool:
        try:
            mine = os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{self.init}/ns/pid")
            return mine and word in Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            return False

    def close(self) -> None:
        self.leader.kill()
        self.leader.wait()
        ip("netns", "del", self.name)


@contextmanager
def network(count: int, folder: Path) -> Iterator[list[Host]]:
    """`count` hosts that reach each other, and nothing else."""
    ip("netns", "add", SWITCH)
    ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
    ip("-n", SWITCH, "link", "set", "bridge", "up")
    hosts: list[Host] = []
    try:
        for number in range(count):
            hosts.append(Host(number, folder))
        yield hosts
    finally:
        for host in hosts:
            host.close()
        ip("netns", "del", SWITCH)
