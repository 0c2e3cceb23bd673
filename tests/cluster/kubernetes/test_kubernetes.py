"""The launcher against a stand-in for the cluster; tests/contracts/test_launchers.py runs whole jobs on it."""

import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cluster.job import Job, LauncherError, Resources, State
from cluster.kubernetes import launcher as module
from cluster.kubernetes import rayjob, words
from cluster.kubernetes.launcher import Kubernetes
from tests.cluster.kube_reader import faults
from tests.cluster.kube_server import Cluster
from tests.cluster.waiting import until

ROOT = Path(__file__).parents[3]
IMAGE = f"registry/reprise:{words.version('reprise')}"


@pytest.fixture
def cluster(tmp_path):
    """A cluster on which nothing happens but what the test does."""
    (tmp_path / "cluster").mkdir()
    made = Cluster(tmp_path / "cluster", runs=False)
    yield made
    made.close()


@pytest.fixture
def kubernetes(cluster):
    return Kubernetes(image=IMAGE, kubeconfig=cluster.kubeconfig())


@pytest.fixture
def job(tmp_path):
    (tmp_path / "work").mkdir()
    return Job("job", ("true",), workdir=tmp_path / "work")


def follow(kubernetes: Kubernetes, id: str) -> tuple[list[str], threading.Thread]:
    """The pieces of a job's log as they come, read by a thread."""
    pieces: list[str] = []
    thread = threading.Thread(target=lambda: [pieces.append(piece) for piece in kubernetes.logs(id, True)], daemon=True)
    thread.start()
    return pieces, thread


def test_check_leaves_nothing_behind(cluster, kubernetes, job):
    before = set(cluster.objects)
    assert kubernetes.check(job) == []
    assert set(cluster.objects) == before
    assert {line.split()[0] for line in cluster.requests} == {"GET", "POST"}


REASONS = {
    "KubeRay is not installed": lambda c, k: setattr(c, "has_kuberay", False),
    "You may not create rayjobs, get pods/log in the namespace 'default'": lambda c, k: c.denied.update(
        {"create rayjobs", "get pods/log"}
    ),
    "no namespace 'other'": lambda c, k: {"namespace": "other"},
    "no service account 'trainer'": lambda c, k: {"service_account": "trainer"},
    "no PersistentVolumeClaim 'data'": lambda c, k: {"volumes": ("data:/data",)},
    "no priority class 'low'": lambda c, k: {"priority": "low"},
    "no Secret 'hub': `kubectl create secret": lambda c, k: {"secrets": ("HF_TOKEN=hub/token",)},
    "has no key 'token'; it has word": lambda c, k: c.secret("hub", word="x") or {"secrets": ("HF_TOKEN=hub/token",)},
    "1 nodes has pool=gpu and admits": lambda c, k: {"node_selector": ("pool=gpu",)},
    "1.5.1": lambda c, k: setattr(c, "refusal", 'unknown field "spec.rayClusterSpec.authOptions"'),
    "quota": lambda c, k: setattr(c, "refusal", "exceeded quota: rayjobs"),
}


@pytest.mark.parametrize("text", REASONS)
def test_each_thing_that_the_cluster_lacks_is_one_reason(cluster, kubernetes, job, text):
    [reason] = replace(kubernetes, **(REASONS[text](cluster, kubernetes) or {})).check(job)
    assert text in reason
    assert reason.endswith(".") and "\n" not in reason


def test_all_reasons_come_at_once(cluster, kubernetes, job):
    cluster.has_kuberay = False
    cluster.denied.add("create rayjobs")
    place = replace(kubernetes, image="reprise", service_account="a", volumes=("data:/data",), node_selector=("x=y",))
    reasons = place.check(replace(job, resources=Resources(nodes=0)))
    assert len(reasons) == 7
    assert [line for line in cluster.requests if line.startswith("POST") and "rayjobs" in line] == []


def test_what_it_may_not_look_at_is_not_held_against_the_job(cluster, kubernetes, job):
    cluster.denied |= {"get namespaces", "list nodes", "get secrets"}
    cluster.secret("hub", other="x")
    place = replace(kubernetes, secrets=("HF_TOKEN=hub/token",))
    assert place.check(replace(job, resources=Resources(cpus=1e6))) == []


@pytest.mark.parametrize(
    ("place", "wanted", "text"),
    [
        ({}, {"cpus": 9}, "9 CPU cores were asked for, and the cluster's largest node has 8"),
        ({}, {"cpus": 7.9, "memory": 31 * 2**30}, None),
        ({}, {"memory": 33 * 2**30}, "33 GiB of memory were asked for"),
        ({}, {"gpus": 1}, None),
        ({}, {"gpus": 5}, "5 GPUs were asked for, and the cluster's largest node has 4"),
        ({"gpu_type": "gpu=a100"}, {"gpus": 1}, None),
        ({"gpu_type": "gpu=h100"}, {"gpus": 1}, "None of the cluster's 3 nodes has gpu=h100"),
        ({"gpu_type": "gpu=h100"}, {}, None),
        ({"node_selector": ("pool=spot",)}, {}, "None of the cluster's 3 nodes has pool=spot"),
        ({"node_selector": ("pool=spot",), "tolerations": ("spot=yes:NoSchedule",)}, {}, None),
        ({"node_selector": ("pool=spot",), "tolerations": ("spot",)}, {"cpus": 64}, None),
        (
            {"node_selector": ("pool=spot",), "tolerations": ("spot=no",)},
            {},
            "None of the cluster's 3 nodes has pool=spot",
        ),
        ({"autoscaled": True}, {"cpus": 1000}, None),
    ],
)
def test_nodes_that_could_take_the_job(cluster, kubernetes, job, place, wanted, text):
    gpus = ({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},)
    cluster.node("n2", {"gpu": "a100"}, gpus, cpu="7900m", memory="31Gi", gpu="4")
    spot = ({"key": "spot", "value": "yes", "effect": "NoSchedule"},)
    cluster.node("n3", {"pool": "spot"}, spot, cpu="64", memory="1000M")
    reasons = replace(kubernetes, **place).check(replace(job, resources=Resources(**wanted)))
    assert len(reasons) == bool(text) and (text or "") in "".join(reasons)


def test_a_silent_cluster_is_one_reason_in_time(kubernetes, job, tmp_path):
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        config = Path(kubernetes.kubeconfig).read_text()
        port = deaf.getsockname()[1]
        (tmp_path / "deaf").write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", config))
        place = replace(kubernetes, kubeconfig=str(tmp_path / "deaf"), timeout=0.5)
        [reason] = place.check(job)
        assert f"No Kubernetes cluster answers at http://127.0.0.1:{port}" in reason
    with pytest.raises(LauncherError, match="No Kubernetes cluster answers"):
        place.submit(job)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("change", [{"kubeconfig": "/nowhere/config"}, {"context": "elsewhere"}])
def test_no_cluster_is_one_reason(kubernetes, job, change):
    [reason] = replace(kubernetes, **change).check(job)
    assert "No Kubernetes cluster is configured" in reason and reason.endswith("name a kubeconfig or context.")


def test_without_the_client_it_says_what_to_install(job):
    code = (
        "import sys; sys.modules['kubernetes'] = None\n"
        "from cluster.kubernetes.launcher import Kubernetes; from cluster.job import Job\n"
        f"print(*Kubernetes({IMAGE!r}, workdir='/x').check(Job('a', ('true',))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "Kubernetes needs its Python client: pip install 'reprise[kubernetes]'.\n", done.stderr


def test_what_is_submitted_is_what_is_rendered_and_owns_its_files(cluster, kubernetes, job):
    id = kubernetes.submit(job)
    sent = cluster.rayjob(id)
    shown = yaml.safe_load(kubernetes.render(job).replace("job-xxxxxxxx", id))
    assert {key: sent[key] for key in shown if key != "metadata"} == {k: v for k, v in shown.items() if k != "metadata"}
    [owner] = cluster.objects[f"/api/v1/namespaces/default/configmaps/{id}"]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("RayJob", id, sent["metadata"]["uid"])


def test_a_folder_alone_in_the_working_directory_stays_where_it_is(cluster, kubernetes, job):
    (job.workdir / "data").mkdir()
    (job.workdir / "data/x").write_text("here")
    cluster.runs = True
    assert "".join(kubernetes.logs(kubernetes.submit(replace(job, command=("cat", "data/x"))), True)) == "here"


def test_a_refused_job_leaves_nothing_behind(cluster, kubernetes, job):
    before = set(cluster.objects)
    cluster.refusal = "admission webhook denied the request"
    with pytest.raises(LauncherError, match="denied the request"):
        kubernetes.submit(job)
    cluster.has_kuberay = False
    with pytest.raises(LauncherError, match="KubeRay is not installed"):
        kubernetes.submit(job)
    with pytest.raises(LauncherError, match="holds a secret"):
        kubernetes.submit(replace(job, env={"A_TOKEN": "s3cret"}))
    assert set(cluster.objects) == before


def test_nothing_is_sent_where_the_folder_lies_on_a_volume(cluster, kubernetes, job):
    id = replace(kubernetes, workdir="/data").submit(job)
    assert cluster.rayjob(id)["spec"]["entrypoint"] == "env -C /data true"
    assert not any("configmaps" in path for path in cluster.objects)


def test_the_namespace_is_the_contexts_own(cluster, job):
    place = Kubernetes(IMAGE, kubeconfig=cluster.kubeconfig(namespace="research"), workdir="/x")
    id = place.submit(job)
    assert f"/apis/ray.io/v1/namespaces/research/rayjobs/{id}" in cluster.objects


def test_a_cluster_that_stays(kubernetes):
    shown = yaml.safe_load(rayjob.raycluster_yaml(kubernetes, "shared_one", Resources(cpus=4, nodes=3)))
    assert faults(shown) == []
    assert shown["kind"] == "RayCluster" and shown["metadata"]["name"] == "shared-one"
    assert shown["spec"]["workerGroupSpecs"][0]["replicas"] == 2
    assert "lifecycle" not in shown["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]


def test_states_follow_the_driver_then_the_submitter(cluster, kubernetes, job):
    id = kubernetes.submit(job)
    assert kubernetes.state(id) is State.pending
    cluster.status(id, jobDeploymentStatus="Running", jobStatus="RUNNING")
    assert kubernetes.state(id) is State.running
    cluster.submitter(id)
    assert kubernetes.state(id) is State.running
    cluster.submitter(id, ended=rayjob.STUCK + 10)
    assert kubernetes.state(id) is State.lost
    cluster.status(id, jobStatus="SUCCEEDED")
    assert kubernetes.state(id) is State.succeeded
    del cluster.objects[f"/apis/ray.io/v1/namespaces/default/rayjobs/{id}"]
    assert kubernetes.state(id) is State.lost
    with pytest.raises(LauncherError, match="There is no job"):
        kubernetes.cancel(id)


def test_following_survives_broken_connections_in_the_middle_of_a_letter(cluster, kubernetes, job):
    id = kubernetes.submit(job)
    cluster.status(id, jobDeploymentStatus="Running", jobStatus="RUNNING")
    log = cluster.pod("sub-1", {"job-name": id})
    cluster.cut = len("größ".encode()) - 1  # within the sharp s
    pieces, thread = follow(kubernetes, id)
    log.write_bytes("größe\n".encode())
    until(lambda: "größe\n" in "".join(pieces))
    with log.open("ab") as file:
        file.write(b"last\n")
    cluster.objects["/api/v1/namespaces/default/pods/sub-1"]["status"]["phase"] = "Succeeded"
    cluster.status(id, jobStatus="SUCCEEDED")
    thread.join(30)
    assert "".join(pieces) == "größe\nlast\n"
    assert sum("/log" in line for line in cluster.requests) >= 2


def test_following_outlives_a_short_outage_and_not_a_long_one(cluster, kubernetes, job, monkeypatch):
    id = kubernetes.submit(job)
    cluster.status(id, jobDeploymentStatus="Running", jobStatus="RUNNING")
    log = cluster.pod("sub-1", {"job-name": id})
    log.write_bytes(b"before\n")
    cluster.cut = len(b"before\n")
    pieces, thread = follow(kubernetes, id)
    cluster.silent = True
    with log.open("ab") as file:
        file.write(b"after\n")
    cluster.objects["/api/v1/namespaces/default/pods/sub-1"]["status"]["phase"] = "Succeeded"
    cluster.status(id, jobStatus="SUCCEEDED")
    with pytest.raises(LauncherError, match="No Kubernetes cluster answers"):
        kubernetes.state(id)
    cluster.silent = False
    thread.join(60)
    assert "".join(pieces) == "before\nafter\n"
    cluster.silent = True
    monkeypatch.setattr(module, "OUTAGE", 0.1)
    with pytest.raises(LauncherError, match="No Kubernetes cluster answers"):
        list(kubernetes.logs(id, True))


def test_a_new_submitter_tells_all_again_under_a_line(cluster, kubernetes, job):
    id = kubernetes.submit(job)
    cluster.status(id, jobDeploymentStatus="Running", jobStatus="RUNNING")
    cluster.pod("sub-1", {"job-name": id}).write_text("one\n")
    pieces, thread = follow(kubernetes, id)
    until(lambda: "one\n" in pieces)
    cluster.objects["/api/v1/namespaces/default/pods/sub-1"]["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    cluster.pod("sub-2", {"job-name": id}, phase="Pending")
    cluster.objects["/api/v1/namespaces/default/pods/sub-1"]["status"]["phase"] = "Failed"
    (cluster.folder / "sub-2.log").write_text("one\ntwo\n")
    cluster.objects["/api/v1/namespaces/default/pods/sub-2"]["status"]["phase"] = "Succeeded"
    cluster.status(id, jobStatus="FAILED")
    thread.join(30)
    assert "".join(pieces) == "one\n\n--- sub-2 replaces sub-1 and prints the log from the beginning ---\none\ntwo\n"


def test_a_job_that_waits_has_no_log_yet_and_says_why(cluster, kubernetes, job):
    id = kubernetes.submit(job)
    assert list(kubernetes.logs(id, False)) == []
    cluster.status(id, jobDeploymentStatus="Initializing", rayClusterName="c")
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    state = {"name": "ray-head", "image": IMAGE, "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    cluster.pod("c-head", {"ray.io/cluster": "c"}, phase="Pending", containerStatuses=[state])
    assert kubernetes.message(id) == "c-head: ImagePullBackOff: no such image"


def test_cancelling_a_job_that_waits_suspends_it(cluster, kubernetes, job):
    id = kubernetes.submit(job)
    kubernetes.cancel(id)
    assert cluster.rayjob(id)["spec"]["suspend"] is True
    assert kubernetes.state(id) is State.cancelled
    kubernetes.cancel(id)


def test_cancelling_without_the_right_to_run_commands_suspends(cluster, kubernetes, job):
    id = kubernetes.submit(job)
    cluster.status(id, jobDeploymentStatus="Running", jobStatus="RUNNING", jobId=id, rayClusterName="c")
    cluster.pod("c-head", {"ray.io/cluster": "c", "ray.io/node-type": "head"})
    cluster.denied.add("get pods/exec")
    kubernetes.cancel(id)
    assert cluster.rayjob(id)["spec"]["suspend"] is True
    assert kubernetes.state(id) is State.cancelled
