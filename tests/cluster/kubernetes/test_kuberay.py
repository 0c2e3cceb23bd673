"""What KubeRay is sent: KubeRay's own schema accepts it, nothing hostile gets through it, no secret stands in it."""

import base64
import copy
import json
import os
import random
import re
import secrets
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cluster.job import Job, Resources, State
from cluster.kubernetes import rayjob as kuberay
from cluster.kubernetes import rules
from cluster.kubernetes import words as kube_words
from cluster.kubernetes.launcher import Kubernetes, packed
from tests.cluster import heads
from tests.cluster.kube_reader import expand, faults, submitted, submitter, variables

HERE = Path(__file__).parent
PLACE = Kubernetes(
    image="registry.example/team/reprise:0.9.0-cuda",
    namespace="research",
    service_account="trainer",
    node_selector=("pool=gpu",),
    tolerations=("dedicated=ml:NoSchedule", "spot"),
    gpu_type="nvidia.com/gpu.product=H100",
    volumes=("datasets:/data", "runs:/runs"),
    secrets=("HF_TOKEN=hub/token",),
    priority="low",
    workdir="/runs/work",
    ray="2.60.0",
    attempts=3,
    time="1-00:00:00",
    grace=120,
)
JOB = Job(
    "ddpm_cifar-10.v2",
    ("python", "-m", "ray_jobs.cli", "train", "ddpm_cifar10", "--note", "it's $HOME"),
    Resources(cpus=7.5, gpus=2, memory=2**36, nodes=3),
    {"PLAIN": "a $(b) $c", "HF_TOKEN": "***"},
)


@pytest.fixture
def release(monkeypatch):
    monkeypatch.setattr(kube_words, "version", lambda package: "0.9.0")


GOLDEN = {
    "kube_rayjob.yaml": lambda: kuberay.rayjob(PLACE, JOB, "ddpm-cifar-10-v2-0123abcd"),
    "kube_rayjob_small.yaml": lambda: kuberay.rayjob(Kubernetes("r/reprise:0.9.0"), Job("a", ("true",)), "a-0"),
    "kube_raycluster.yaml": lambda: kuberay.raycluster(PLACE, JOB, "shared"),
}


@pytest.mark.parametrize("file", GOLDEN)
def test_manifests_are_as_they_were(release, file):
    """Read the change before you accept it: `python -m tests.cluster.kubernetes.test_kuberay` rewrites the files."""
    assert GOLDEN[file]() == yaml.safe_load((HERE / file).read_text())
    assert faults(GOLDEN[file]()) == []


def test_no_pod_takes_a_label_by_which_kuberay_finds_its_own():
    text = yaml.safe_dump(kuberay.rayjob(PLACE, JOB, "a-0"))
    assert "reprise/job: ddpm_cifar-10.v2" in text
    assert "app.kubernetes.io/" not in text and "ray.io/cluster" not in text


def spoiled(change) -> dict:
    manifest = copy.deepcopy(kuberay.rayjob(PLACE, JOB, "a-1"))
    change(manifest)
    return manifest


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["spec"].update(shutdownAfterJobFinish=True),
        lambda m: m["spec"].update(backoffLimit="3"),
        lambda m: m["spec"]["rayClusterSpec"]["headGroupSpec"].pop("template"),
        lambda m: m["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].update(replicas=1.5),
        lambda m: m["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0].pop("name"),
        lambda m: m["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"].update(tolerations=[{"keys": "a"}]),
        lambda m: m["spec"]["submitterPodTemplate"]["spec"].update(restartpolicy="Never"),
        lambda m: m["spec"]["rayClusterSpec"].update(authOptions={"mode": "tokens"}),
        lambda m: m["metadata"].update(name="Upper"),
        lambda m: m["metadata"].update(name="a" * 48),
    ],
)
def test_the_schema_sees_what_is_wrong(change):
    assert faults(spoiled(lambda m: None)) == []
    assert faults(spoiled(change)) != []


WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
HOSTILE = st.one_of(
    WORD,
    st.lists(
        st.sampled_from(["$", "$$", "$(A)", "$(touch x)", "`", "'", '"', "\\", "\n", " ", ";", "&", "*", "ü", "{{"])
    ).map("".join),
)
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9_.-]{0,46}[a-z0-9])?", fullmatch=True)
VARIABLES = st.dictionaries(st.sampled_from(["A", "B", "ODD_1", "_x"]), HOSTILE, max_size=3)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, arguments=st.lists(HOSTILE, max_size=5), env=VARIABLES)
@example("0_.a", ["$(RAY_JOB_SUBMISSION_ID)", "$$", "$(PATH)", "", "--", "-x", "a b"], {"A": "$(B)", "B": "$$(A)"})
def test_what_is_hostile_arrives_as_it_was_sent(tmp_path_factory, name, arguments, env):
    scratch = tmp_path_factory.mktemp("submitter")
    place = Kubernetes(image="r/reprise:1", namespace="ns")
    job = Job(name, ("printf", r"%s\0", *arguments), env=env)
    manifest = yaml.safe_load(yaml.safe_dump(kuberay.rayjob(place, job, kube_words.object_name(f"{name}-0123abcd"))))
    assert faults(manifest) == []
    request = submitted(manifest, scratch)
    assert json.loads(request["runtime_env"]) == {"working_dir": "file:///etc/reprise/working_dir.zip"}
    printed = subprocess.run(request["entrypoint"], shell=True, capture_output=True, check=True, cwd=scratch).stdout
    assert printed.decode() == "".join(f"{word}\0" for word in arguments or [""])
    [head] = manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert variables(head, {}).items() >= env.items()


def test_a_real_ray_runs_it_in_the_working_directory(tmp_path, monkeypatch):
    """All of the way but the pods: KubeRay's command line, real bash, real `ray job`, a real head."""
    monkeypatch.setattr(kuberay, "SENT", str(tmp_path))
    (tmp_path / "work/data").mkdir(parents=True)
    (tmp_path / "work/data/x.txt").write_text("found me")
    (tmp_path / kube_words.ARCHIVE).write_bytes(base64.b64decode(packed(tmp_path / "work")))
    words = ("it's", "$(PATH) $$ $HOME `x`", "", "a  b\nc", "ü*", '"')
    program = "import sys; print('GOT', [*sys.argv[1:], open('data/x.txt').read()], 'END')"
    job = Job("a", (sys.executable, "-c", program, *words), workdir=tmp_path / "work")
    manifest = kuberay.rayjob(Kubernetes("r/reprise:0.9.0"), job, f"a-{secrets.token_hex(4)}")
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RAY_AUTH_MODE": "disabled"}
    line = submitter(manifest, heads.open_head())
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert f"GOT {[*words, 'found me']} END" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(X)", "$(X)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$$$$", "$$"),
    ],
)
def test_expansion_as_kubernetes_documents_it(text, read):
    assert expand(text, {"A": "1"}) == read
    assert expand(kube_words.literal(text), {"A": "1"}) == text


@given(st.text(max_size=80))
def test_names_are_names_and_stay(text):
    name = kube_words.object_name(text)
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?", name)
    assert kube_words.object_name(name) == name


@given(NAMES)
def test_the_drawn_end_of_a_name_is_kept(text):
    assert kube_words.object_name(f"{text}-0123abcd").endswith("-0123abcd")


def test_words():
    assert kube_words.parse_volume("a.b:/x y") == ("a.b", "/x y")
    assert kube_words.parse_secret("A=b/c.d") == ("A", "b", "c.d")
    assert kube_words.parse_label("a.io/b=c") == ("a.io/b", "c")
    assert kube_words.parse_toleration("k") == {"key": "k", "operator": "Exists"}
    times = {"90": 5400, "1:30": 90, "4:00:00": 14400, "2-12": 216000, "1-2:03": 93780, "0-0:0:1": 1}
    assert {text: kube_words.parse_seconds(text) for text in times} == times
    full = {"key": "a/k", "operator": "Equal", "value": "v", "effect": "NoExecute"}
    assert kube_words.parse_toleration("a/k=v:NoExecute") == full


@pytest.mark.parametrize(
    "options",
    [
        {"volumes": ("Data:/x",)},
        {"volumes": ("data",)},
        {"secrets": ("HF_TOKEN=hub",)},
        {"secrets": ("HF_TOKEN=b/c/d",)},
        {"node_selector": ("gpu",)},
        {"gpu_type": "H100"},
        {"tolerations": ("k:Never",)},
        {"namespace": "Research"},
        {"service_account": "a b"},
        {"priority": "-x"},
        {"attempts": 0},
        {"time": "-1"},
        {"time": "0:00"},
        {"time": "1 hour"},
        {"ttl": float("nan")},
        {"workdir": "work"},
        {"image": ""},
        {"image": "registry/Reprise:0.9.0"},
        {"image": "registry/reprise"},
        {"image": "registry:5000/reprise"},
        {"image": "registry/reprise:latest"},
        {"image": "registry/reprise:0.9.01"},
    ],
)
def test_each_malformed_option_is_one_reason(release, tmp_path, options):
    job = replace(JOB, workdir=tmp_path)
    assert rules.reasons_against(PLACE, job) == []
    [reason] = rules.reasons_against(replace(PLACE, **options), job)
    assert reason.endswith(".")


@pytest.mark.parametrize("tag", ["0.9.0", "0.9.0-cuda", "main_0.9.0", "0.9.0@sha256:" + "0" * 64])
def test_images_that_say_our_version(release, tag):
    assert rules.reasons_against(replace(PLACE, image=f"registry:5000/reprise:{tag}"), JOB) == []


def test_a_secret_is_refused_and_hidden_and_goes_by_reference(release, tmp_path):
    job = Job("a", ("run", "--hub.token=s3cret"), env={"HF_TOKEN": "s3cret", "X_KEY": "public"}, workdir=tmp_path)
    place = Kubernetes("r/reprise:0.9.0")
    reasons = rules.reasons_against(place, job)
    assert len(reasons) == 2 and all("holds a secret" in reason for reason in reasons)
    assert "secrets as HF_TOKEN=hf-token/value" in reasons[0]
    assert "s3cret" not in place.render(job) + "".join(reasons)
    named = replace(place, secrets=("HF_TOKEN=hub/token",))
    clean = replace(job, command=("run",))
    assert rules.reasons_against(named, clean) == []
    assert "s3cret" not in json.dumps(kuberay.rayjob(named, clean, "a-0"))
    [head] = kuberay.rayjob(named, clean, "a-0")["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"][
        "containers"
    ]
    assert variables(head, {("hub", "token"): "real"})["HF_TOKEN"] == "real"


def test_a_working_directory_that_is_too_big_names_its_largest_files(tmp_path):
    place = Kubernetes(f"r/reprise:{kube_words.version('reprise')}")
    job = Job("a", ("true",), workdir=tmp_path)
    (tmp_path / "zeros.bin").write_bytes(bytes(2**22))  # packs to almost nothing
    assert rules.reasons_against(place, job) == []
    (tmp_path / "noise.bin").write_bytes(random.Random(0).randbytes(2**20))
    [reason] = rules.reasons_against(place, job)
    assert "zeros.bin (4.0 MiB), noise.bin (1.0 MiB)" in reason
    assert rules.reasons_against(replace(place, workdir="/data"), job) == []


def test_sizes_of_a_node():
    assert kuberay.quantities(Resources(cpus=0.25)) == {"cpu": "250m"}
    assert kuberay.quantities(Resources(cpus=4, gpus=1, memory=7)) == {"cpu": "4", "memory": "7", kube_words.GPU: "1"}
    assert kuberay.quantities(Resources(cpus=0)) == {}


def status(driver: str, deployed: str, *, asked: bool = False, attempts: int = 1, **more) -> dict:
    notes = {kuberay.CANCELLED: "1"} if asked else {}
    fields = {"jobStatus": driver, "jobDeploymentStatus": deployed, **more}
    return {"metadata": {"annotations": notes}, "spec": {"backoffLimit": attempts - 1}, "status": fields}


@pytest.mark.parametrize(
    ("rayjob", "state"),
    [
        ({"metadata": {}, "spec": {}}, State.pending),
        (status("", "Initializing"), State.pending),
        (status("", "Running"), State.pending),
        (status("PENDING", "Running"), State.pending),
        (status("RUNNING", "Running"), State.running),
        (status("SUCCEEDED", "Running"), State.succeeded),
        (status("SUCCEEDED", "Complete"), State.succeeded),
        (status("SUCCEEDED", "Failed"), State.succeeded),  # kuberay#1919: the submitter failed, the driver did not
        (status("STOPPED", "Complete"), State.cancelled),
        (status("FAILED", "Failed"), State.failed),
        (status("FAILED", "Running"), State.failed),  # kuberay#3553: the submitter hangs
        (status("FAILED", "Running", attempts=3, failed=1), State.running),  # a try is left
        (status("FAILED", "Running", attempts=3, failed=2), State.failed),
        (status("FAILED", "Retrying", attempts=3, failed=1), State.pending),
        (status("", "Initializing", attempts=3, failed=1), State.pending),
        (status("", "ValidationFailed"), State.failed),
        (status("", "Failed", reason="SubmissionFailed"), State.failed),
        (status("RUNNING", "Failed", reason="DeadlineExceeded"), State.failed),
        (status("RUNNING", "Failed", reason="SubmissionFailed"), State.lost),  # kuberay#2314
        (status("RUNNING", "Complete"), State.lost),
        (status("", "Suspended"), State.pending),  # by a queue
        (status("", "Suspended", asked=True), State.cancelled),
        (status("RUNNING", "Suspending", asked=True), State.running),  # it may still save
        (status("RUNNING", "Failed", asked=True), State.cancelled),
    ],
)
def test_states(rayjob, state):
    assert kuberay.state_of(rayjob) is state


def test_a_driver_whose_submitter_ended_long_ago_is_lost():
    running = status("RUNNING", "Running")
    assert kuberay.state_of(running, submitter_ended=5) is State.running
    assert kuberay.state_of(running, submitter_ended=kuberay.STUCK + 1) is State.lost
    assert kuberay.state_of(status("RUNNING", "Running", asked=True), kuberay.STUCK + 1) is State.cancelled


if __name__ == "__main__":
    kube_words.version = lambda package: "0.9.0"
    for name, make in GOLDEN.items():
        (HERE / name).write_text(yaml.safe_dump(make(), sort_keys=False, width=2**20))
