"""A stand-in for a Kubernetes API server with KubeRay's operator: it holds objects, checks what it is sent, runs jobs.

A RayJob is run as KubeRay would (see kube_reader); only Ray and the containers are missing.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import signal
import struct
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.cluster.kube_reader import faults, submitted, unpack, variables

NOW = "%Y-%m-%dT%H:%M:%SZ"


class Cluster:
    """The state of the stand-in. Objects lie under their paths, /api/v1/namespaces/default/configmaps/x."""

    def __init__(self, folder: Path, runs: bool = True) -> None:
        self.folder, self.runs = folder, runs
        self.objects: dict[str, dict] = {}
        self.secrets: dict[tuple[str, str], str] = {}
        self.denied: set[str] = set()
        """'verb resource' that nobody may."""
        self.has_kuberay = True
        self.refusal = ""
        """What is said to every new RayJob; '' lets it in."""
        self.requests: list[str] = []
        self.cut = 0
        """Bytes after which the next log that is followed breaks off; 0 for none."""
        self.silent = False
        """Whether it hangs up on everybody."""
        self.processes: dict[str, subprocess.Popen] = {}
        self.stopped: set[str] = set()
        self.lock = threading.RLock()
        self.put("/api/v1/namespaces/default", {"kind": "Namespace"})
        self.node("n1", cpu="8", memory="32Gi")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kubeconfig(self, namespace: str = "") -> str:
        """A file that leads here."""
        context = {"cluster": "c", "user": "u", **({"namespace": namespace} if namespace else {})}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "here", "context": context}],
        }
        path = self.folder / "kubeconfig.json"
        path.write_text(json.dumps(config))
        return str(path)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def put(self, path: str, body: dict) -> dict:
        meta = body.setdefault("metadata", {})
        meta.setdefault("name", path.rpartition("/")[2])
        meta.setdefault("uid", hashlib.md5(path.encode()).hexdigest())
        meta.setdefault("creationTimestamp", time.strftime(NOW, time.gmtime()))
        with self.lock:
            self.objects[path] = body
        return body

    def node(self, name: str, labels: dict[str, str] | None = None, taints: tuple = (), **room: str) -> None:
        status = {"allocatable": {key.replace("gpu", "nvidia.com/gpu"): size for key, size in room.items()}}
        body = {"metadata": {"name": name, "labels": labels or {}}, "spec": {"taints": list(taints)}, "status": status}
        self.put(f"/api/v1/nodes/{name}", body)

    def secret(self, name: str, **values: str) -> None:
        self.secrets |= {(name, key): value for key, value in values.items()}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.put(f"/api/v1/namespaces/default/secrets/{name}", {"data": data})

    def rayjob(self, name: str) -> dict:
        return self.objects[f"/apis/ray.io/v1/namespaces/default/rayjobs/{name}"]

    def status(self, name: str, **fields: object) -> None:
        """Moves a RayJob on; jobStatus, jobDeploymentStatus, reason and so on."""
        with self.lock:
            self.rayjob(name).setdefault("status", {}).update(fields)

    def pod(self, name: str, labels: dict[str, str], phase: str = "Running", **status: object) -> Path:
        """Adds a pod, and returns the file that holds what it prints."""
        body = {"metadata": {"name": name, "labels": labels}, "status": {"phase": phase, **status}}
        self.put(f"/api/v1/namespaces/default/pods/{name}", body)
        path = self.folder / f"{name}.log"
        path.touch()
        return path

    def submitter(self, name: str, ended: float | None = None, kind: str = "Complete") -> None:
        """The submitter's Kubernetes Job; `ended`: seconds ago."""
        when = time.strftime(NOW, time.gmtime(time.time() - (ended or 0)))
        conditions = [{"type": kind, "status": "True", "lastTransitionTime": when}] if ended is not None else []
        self.put(f"/apis/batch/v1/namespaces/default/jobs/{name}", {"status": {"conditions": conditions}})

    def operate(self, name: str) -> None:
        """What KubeRay's operator and Ray do with a new RayJob."""
        rayjob, cluster = self.rayjob(name), f"{name}-abcde"
        self.status(name, jobDeploymentStatus="Initializing", rayClusterName=cluster, jobId=rayjob["spec"]["jobId"])
        self.pod(f"{cluster}-head", {"ray.io/cluster": cluster, "ray.io/node-type": "head"})
        log = self.pod(f"{name}-sub", {"job-name": name})
        self.submitter(name)
        scratch = self.folder / name
        scratch.mkdir()
        request = submitted(rayjob, scratch)
        work = scratch / "work"
        work.mkdir()
        if uri := json.loads(request["runtime_env"]).get("working_dir"):
            assert uri == "file:///etc/reprise/working_dir.zip"
            sent = self.objects[f"/api/v1/namespaces/default/configmaps/{name}"]["binaryData"]["working_dir.zip"]
            unpack(base64.b64decode(sent), work)
        [head] = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
        env = os.environ | variables(head, self.secrets)
        with log.open("wb") as out:
            process = subprocess.Popen(
                request["entrypoint"], shell=True, cwd=work, env=env, stdout=out, stderr=out, start_new_session=True
            )
        self.processes[name] = process
        self.status(name, jobDeploymentStatus="Running", jobStatus="RUNNING")
        code = process.wait()
        while name in self.stopped and lives(process.pid):
            time.sleep(0.02)
        word = "STOPPED" if name in self.stopped else "FAILED" if code else "SUCCEEDED"
        self.submitter(name, ended=0)
        self.objects[f"/api/v1/namespaces/default/pods/{name}-sub"]["status"]["phase"] = "Succeeded"
        self.status(name, jobStatus=word, jobDeploymentStatus="Failed" if word == "FAILED" else "Complete")

    def stop(self, name: str) -> int:
        """Ray's `job stop --no-wait`: SIGTERM now, SIGKILL later; its exit code."""
        process = self.processes.get(name)
        if process is None or process.poll() is not None:
            return 1
        [head] = self.rayjob(name)["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
        grace = float(variables(head, self.secrets)["RAY_JOB_STOP_WAIT_TIME_S"])
        self.stopped.add(name)
        os.killpg(process.pid, signal.SIGTERM)
        threading.Thread(target=kill_late, args=(process.pid, grace), daemon=True).start()
        return 0

    def suspend(self, name: str) -> None:
        """The operator's answer to suspend: true."""
        for path in [path for path in self.objects if f"/pods/{name}-" in path]:
            del self.objects[path]
        self.status(name, jobDeploymentStatus="Suspended", jobStatus="", rayClusterName="")


RUNNING: list[Cluster] = []


def start(folder: Path) -> str:
    """A cluster of its own; the kubeconfig that leads to it."""
    (folder / "cluster").mkdir()
    RUNNING.append(Cluster(folder / "cluster"))
    return RUNNING[-1].kubeconfig()


def stop_all() -> None:
    """Ends what `start` started."""
    while RUNNING:
        RUNNING.pop().close()


def lives(group: int) -> bool:
    """Whether a process of this group still runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def kill_late(group: int, grace: float) -> None:
    deadline = time.monotonic() + grace
    while lives(group):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                return os.killpg(group, signal.SIGKILL)
        time.sleep(0.02)


class Handler(BaseHTTPRequestHandler):
    """One connection. Source of the paths and answers: Kubernetes' API conventions."""

    protocol_version = "HTTP/1.1"

    def __init__(self, cluster: Cluster, *args: object) -> None:
        self.cluster = cluster
        super().__init__(*args)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        path, query = self.read()
        if path.endswith("/log"):
            return self.print(path.split("/")[-2], "true" in query.get("follow", []))
        if path.endswith("/exec"):
            return self.exec(path.split("/")[-2], query["command"])
        if path == "/apis/ray.io/v1":
            kinds = [
                {"name": "rayjobs", "kind": "RayJob", "namespaced": True, "singularName": "rayjob", "verbs": ["get"]}
            ]
            body = {"kind": "APIResourceList", "groupVersion": "ray.io/v1", "resources": kinds}
            return self.answer(200, body) if self.cluster.has_kuberay else self.refuse(404, "not found")
        if self.refused("get" if path in self.cluster.objects else "list", path):
            return None
        if path in self.cluster.objects:
            return self.answer(200, self.cluster.objects[path])
        if path.rpartition("/")[2] not in ("pods", "nodes"):
            return self.refuse(404, f"{path} not found")
        wanted = dict(word.split("=") for word in filter(None, query.get("labelSelector", [""])[0].split(",")))
        found = [body for at, body in self.cluster.objects.items() if at.rpartition("/")[0] == path]
        found = [body for body in found if wanted.items() <= body["metadata"].get("labels", {}).items()]
        return self.answer(200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": found})

    def do_POST(self) -> None:
        path, query = self.read()
        body = self.body
        if path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, [asked["resource"], asked.get("subresource")]))
            allowed = f"{asked['verb']} {resource}" not in self.cluster.denied
            return self.answer(201, body | {"status": {"allowed": allowed}})
        if self.refused("create", path):
            return None
        if not self.cluster.has_kuberay and "ray.io" in path:
            return self.refuse(404, "404 page not found")
        refusal = self.cluster.refusal if body.get("kind") == "RayJob" else ""
        if wrong := [*faults(body), *([refusal] if refusal else [])]:
            return self.refuse(400, "; ".join(wrong))
        assert body["metadata"].get("namespace", path.split("/")[-2]) == path.split("/")[-2]
        at = f"{path}/{body['metadata']['name']}"
        if at in self.cluster.objects:
            return self.refuse(409, f"{at} already exists")
        if query.get("dryRun"):
            return self.answer(201, body)
        made = self.cluster.put(at, body)
        if body["kind"] == "RayJob" and self.cluster.runs:
            threading.Thread(target=self.cluster.operate, args=(body["metadata"]["name"],), daemon=True).start()
        return self.answer(201, made)

    def do_PATCH(self) -> None:
        path, _ = self.read()
        if path not in self.cluster.objects:
            return self.refuse(404, f"{path} not found")
        assert "merge-patch" in self.headers["Content-Type"], self.headers["Content-Type"]
        with self.cluster.lock:
            merge(self.cluster.objects[path], self.body)
        if (
            wrong := faults({k: v for k, v in self.cluster.objects[path].items() if k != "status"})
        ) and "ray.io" in path:
            return self.refuse(422, "; ".join(wrong))
        if self.body.get("spec", {}).get("suspend"):
            self.cluster.suspend(path.rpartition("/")[2])
        return self.answer(200, self.cluster.objects[path])

    def do_DELETE(self) -> None:
        path, _ = self.read()
        gone = self.cluster.objects.pop(path, None)
        return self.answer(200, gone) if gone else self.refuse(404, f"{path} not found")

    def read(self) -> tuple[str, dict[str, list[str]]]:
        self.body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        parts = urlsplit(self.path)
        if self.cluster.silent:
            raise ConnectionResetError
        self.cluster.requests.append(f"{self.command} {parts.path}")
        return parts.path, parse_qs(parts.query)

    def refused(self, verb: str, path: str) -> bool:
        parts = path.split("/")
        known = {"pods", "nodes", "secrets", "configmaps", "rayjobs", "jobs", "namespaces"}
        resource = next((part for part in reversed(parts) if part in known), "")
        if f"{verb} {resource}" in self.cluster.denied:
            self.refuse(403, f"{resource} is forbidden: you cannot {verb} it")
            return True
        return False

    def refuse(self, code: int, message: str) -> None:
        self.answer(code, {"kind": "Status", "status": "Failure", "message": message, "code": code})

    def answer(self, code: int, body: dict) -> None:
        with self.cluster.lock:
            data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def print(self, pod: str, follow: bool) -> None:
        """A pod's log; with `follow` until the pod has ended, or the line is cut."""
        cut, self.cluster.cut = (self.cluster.cut, 0) if follow else (0, self.cluster.cut)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        at, sent = f"/api/v1/namespaces/default/pods/{pod}", 0
        with (self.cluster.folder / f"{pod}.log").open("rb") as file:
            while True:
                body = self.cluster.objects.get(at)
                ended = not follow or body is None or body["status"]["phase"] != "Running"
                while piece := file.read(cut - sent if cut else 65536):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    sent += len(piece)
                    if cut and sent >= cut:
                        self.close_connection = True
                        return
                if ended:
                    self.wfile.write(b"0\r\n\r\n")
                    return
                time.sleep(0.02)

    def exec(self, pod: str, command: list[str]) -> None:
        """A command in a pod, over a WebSocket. Source: RFC 6455; Kubernetes' v4.channel.k8s.io."""
        if "get pods/exec" in self.cluster.denied:
            return self.refuse(403, "pods/exec is forbidden")
        accept = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept.digest()).decode())
        self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        self.end_headers()
        assert command[:6] == ["ray", "job", "stop", "--no-wait", "--address", "http://127.0.0.1:8265"], command
        code = self.cluster.stop(command[6])
        causes = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
        status = (
            {"status": "Failure", "reason": "NonZeroExitCode", "details": causes} if code else {"status": "Success"}
        )
        for payload in (b"\x01stopping\n", b"\x03" + json.dumps(status).encode()):
            self.wfile.write(
                b"\x82"
                + (bytes([len(payload)]) if len(payload) < 126 else struct.pack(">BH", 126, len(payload)))
                + payload
            )
        self.wfile.write(b"\x88\x02" + struct.pack(">H", 1000))
        self.close_connection = True
        return None


def merge(body: dict, change: dict) -> None:
    """RFC 7386."""
    for key, value in change.items():
        if value is None:
            body.pop(key, None)
        elif isinstance(value, dict) and isinstance(body.get(key), dict):
            merge(body[key], value)
        else:
            body[key] = value
