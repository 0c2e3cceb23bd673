"""Clusters of processes: the plan and the record without any, then one real cluster of two nodes for what is left."""

import os
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.job import Job, LauncherError, Resources, State
from cluster.ray_clusters import nodes, plan, record
from cluster.ray_clusters.address import address_of
from cluster.ray_clusters.http import ask, bearer
from cluster.ray_clusters.jobs_api import Ray
from cluster.ray_clusters.plan import (
    LOOPBACK,
    Cluster,
    Node,
    client_env,
    devices,
    exports,
    plan_cluster,
    start_env,
    start_line,
)
from ray_jobs import cli
from ray_jobs.errors import UsageError
from ray_jobs.jobs import ray_cluster
from tests.cluster import tls

ROOT = Path(__file__).parents[3]
FIXED = Cluster(
    "lab",
    (
        Node(2, 1, 2**30, {"fast": 1}, {"port": 1, "dashboard-port": 2}, "0"),
        Node(2, 1, 2**30, {"fast": 1}, {"node-manager-port": 3}, "1"),
    ),
    token="/t",
    temp="/x",
    id="i",
)


@pytest.fixture()
def apart(tmp_path, monkeypatch):
    """A list of clusters of the test's own, and no address in the environment."""
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


# ---- the plan


def test_golden_lines():
    head, other = (start_line(FIXED, i) for i in (0, 1))
    assert head[:4] == other[:4] == [sys.executable, "-P", "-c", plan.BEGIN]
    common = ["--node-ip-address=127.0.0.1", "--num-cpus=2", "--num-gpus=1", "--memory=1073741824"]
    common += ['--resources={"fast": 1}', "--min-worker-port=0", "--max-worker-port=0"]
    begin = ["start", "--block", "--disable-usage-stats"]
    place = ["--head", "--dashboard-host=127.0.0.1", "--temp-dir=/x/0"]
    assert head[4:] == [*begin, *place, *common, "--port=1", "--dashboard-port=2"]
    assert other[4:] == [*begin, "--address=127.0.0.1:1", "--temp-dir=/x/1", *common, "--node-manager-port=3"]


def test_nodes_are_marked_guarded_and_share_the_gpus():
    env = start_env(FIXED, 1)
    assert env[plan.MARK] == "i.1"
    assert env["CUDA_VISIBLE_DEVICES"] == "1"
    assert (env["RAY_AUTH_MODE"], env["RAY_AUTH_TOKEN_PATH"]) == ("token", "/t")
    assert start_env(replace(FIXED, token=""), 0)["RAY_AUTH_MODE"] == "disabled"
    assert plan.MARK not in client_env(FIXED)  # else a program of the user's would end with the cluster


def test_exports_are_quoted_for_a_shell():
    odd = replace(FIXED, token="/a b/$(touch pwned)'\"")
    words = shlex.split(exports(odd))
    assert f"RAY_AUTH_TOKEN_PATH={odd.token}" in words
    assert "RAY_ADDRESS=127.0.0.1:1" in words


def test_gpus_are_shared_out():
    assert devices(None, 2, 2) == ["0,1", "2,3"]
    assert devices("5,7,9,", 3, 1) == ["5", "7", "9"]
    assert devices("5", 1, None) == [None]
    assert devices(None, 2, 0) == [None, None]
    with pytest.raises(LauncherError, match="CUDA_VISIBLE_DEVICES has 1"):
        devices("5", 2, 1)


def test_no_two_parts_share_a_port():
    made = plan_cluster("lab", 3, 1, 0, 0, {}, LOOPBACK)
    ports = [port for node in made.nodes for port in node.ports.values()]
    assert len(ports) == len(set(ports)) == 3 + 3 * 6


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name": "../x"}, "cannot name a cluster"),
        ({"nodes": 0}, "at least 1 node"),
        ({"cpus": -1}, "--cpus must be a number"),
        ({"resources": {"fast": "2"}}, "fast must be a number"),
        ({"resources": {"CPU": 2}}, "an option of its own"),
        ({"host": "0.0.0.0"}, "this machine's IP addresses"),
        ({"host": "192.0.2.77"}, "this machine's IP addresses"),
        ({"host": "a;b"}, "this machine's IP addresses"),
    ],
)
def test_what_cannot_be_is_refused(wrong, why):
    right = {"name": "lab", "nodes": 1, "cpus": 1, "gpus": 0, "memory": 0, "resources": {}, "host": LOOPBACK}
    with pytest.raises(LauncherError, match=why):
        plan_cluster(**right | wrong)


# ---- the record


def test_a_record_comes_back_and_its_token_is_the_owners_alone(apart):
    made = record.claim(plan_cluster("lab", 2, 1, 0, 0, {"fast": 1}, LOOPBACK), token=True)
    Path(made.temp).rmdir()
    assert record.load("lab") == made
    assert Path(made.token).stat().st_mode & 0o777 == 0o600
    assert record.folder_of("lab").stat().st_mode & 0o777 == 0o700
    secret = Path(made.token).read_text()
    assert len(secret) == 64
    assert secret not in (record.folder_of("lab") / "cluster.json").read_text()
    with pytest.raises(LauncherError, match="already"):
        record.claim(made, token=True)


def test_a_damaged_record_is_one_sentence_and_hides_no_other(apart):
    made = record.claim(plan_cluster("lab", 1, 1, 0, 0, {}, LOOPBACK), token=False)
    Path(made.temp).rmdir()
    (apart / "clusters/bad").mkdir()
    (apart / "clusters/bad/cluster.json").write_text("{")
    with pytest.raises(LauncherError, match="damaged"):
        record.load("bad")
    assert record.known() == [made]
    with pytest.raises(LauncherError, match="there is: lab"):
        record.load("../lab")


def test_who_is_dead_is_not_running_and_its_name_is_free_again(apart):
    ended = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    ended.wait()
    made = record.claim(plan_cluster("lab", 1, 1, 0, 0, {}, LOOPBACK), token=False)
    dead = {"pid": ended.pid, "started": "then"}
    record.save(replace(made, processes=(dead,), starter=dead, ready=True))
    assert record.running() == []
    nodes._clear_dead("lab")
    assert record.known() == []


def test_a_cluster_of_another_machine_is_not_ended_here(apart):
    made = replace(FIXED, machine="elsewhere", processes=({"pid": os.getpid(), "started": "x"},))
    with pytest.raises(LauncherError, match="elsewhere"):
        nodes.down(made)


def test_without_a_token_nobody_else_may_reach_it(apart, monkeypatch):
    monkeypatch.setattr(plan, "_own_address", lambda host: None)
    monkeypatch.setattr(plan, "free_ports", lambda n, host: list(range(n)))
    with pytest.raises(UsageError, match="can run programs here"):
        ray_cluster.up("lab", host="192.0.2.77", token=False)


def test_a_node_that_ray_gives_up_is_started_again_and_not_for_ever(apart, monkeypatch):
    """A stand-in for Ray ends at once, twice more than it may."""
    monkeypatch.setattr(plan, "start_line", lambda cluster, index: [sys.executable, "-c", "print('gave up')"])
    began: list[int] = []
    start = nodes._start
    monkeypatch.setattr(nodes, "_start", lambda cluster, index: began.append(index) or start(cluster, index))
    with pytest.raises(
        LauncherError, match=r"Node 0 of the cluster lab ended while it was started\. Its last line: gave up"
    ):
        nodes.up(plan_cluster("lab", 2, 1, 0, 0, {}, LOOPBACK))
    assert began == [0] * nodes.ATTEMPTS
    assert record.known() == []


@pytest.mark.parametrize(("words", "held"), [(["reproduce", "ppo_cartpole"], False), (["train", "ppo_cartpole"], True)])
def test_who_waits_for_others_holds_no_core(words, held, apart, monkeypatch, capsys):
    """Two reproductions that held the cluster's two cores would wait for each other for ever."""
    monkeypatch.chdir(apart)
    cli.main(["submit", "--on", "ray", "--address", "http://127.0.0.1:1", "--dry_run", *words])
    assert ("entrypoint_num_cpus" in capsys.readouterr().out) == held


# ---- one that lives


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes of one core each, and a list of clusters that holds no other."""
    before = {name: os.environ.get(name) for name in ("REPRISE_STATE", "RAY_ADDRESS", "PYTHONPATH")}
    os.environ |= {"REPRISE_STATE": str(tmp_path_factory.mktemp("state")), "PYTHONPATH": str(ROOT)}
    os.environ.pop("RAY_ADDRESS", None)
    try:
        yield nodes.up(replace(plan_cluster("lab", 2, 1, 0, 0, {"fast": 1}, LOOPBACK), object_store=80_000_000))
    finally:
        for left in record.known():
            nodes.down(left)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture()
def lab(cluster, monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return cluster


def end(launcher: Ray, id: str) -> State:
    deadline = time.monotonic() + 90
    while not (state := launcher.state(id)).ended:
        assert time.monotonic() < deadline, f"{id} is still {state}"
        time.sleep(0.1)
    return state


@pytest.mark.fault
def test_its_nodes_have_what_was_asked(lab):
    totals = [node["resources_total"] for node in nodes.nodes(lab)]
    assert [(t["CPU"], t["fast"], t.get("GPU", 0)) for t in totals] == [(1, 1, 0)] * 2


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux shows who listens where")
@pytest.mark.fault
def test_everything_listens_on_loopback_alone(lab):
    found = nodes.listening(lab)
    planned = {port for node in lab.nodes for port in node.ports.values()}
    assert len(set(found) & planned) > len(planned) // 2
    assert set(found.values()) == {LOOPBACK}


@pytest.mark.fault
def test_others_of_this_machine_cannot_reach_its_sockets(lab):
    assert Path(lab.temp).stat().st_mode & 0o077 == 0


@pytest.mark.fault
def test_it_is_found_by_itself_and_by_name(lab, monkeypatch):
    assert address_of() == address_of("lab") == address_of(lab.address) == lab.url
    assert len(Ray().nodes()) == 2
    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere:1")
    assert address_of() == "http://elsewhere:1"


@pytest.mark.fault
def test_the_token_is_wanted(lab):
    for token in ("", "b" * 64):
        with pytest.raises(LauncherError, match="wants a token") as output:
            ask(lab.url, "/api/jobs/", headers=bearer(token))
        assert "bbbb" not in str(output.value)
    with pytest.raises(LauncherError, match="wants a token"):
        Ray(lab.url.replace("127.0.0.1", "localhost")).nodes()  # another name: the token is not for it


@pytest.mark.skipif(not tls.possible(), reason="openssl makes the certificate")
@pytest.mark.fault
def test_a_dashboard_behind_tls(lab, tmp_path, monkeypatch):
    """A job is sent, followed and known through a proxy, whose authority must be named."""
    cert, key = tls.certificate(tmp_path)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", lab.token)
    (work := tmp_path / "work").mkdir()
    job = Job("tls", (sys.executable, "-c", "print('through')"), Resources(cpus=0), workdir=work)
    with tls.before(lab.nodes[0].ports["dashboard-port"], cert, key) as port:
        url = f"https://127.0.0.1:{port}"
        [reason] = Ray(url).check(job)
        assert "not trusted" in reason
        assert "REQUESTS_CA_BUNDLE" in reason
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
        assert Ray(url).check(job) == []
        id = Ray(url).submit(job)
        assert "through" in "".join(Ray(url).logs(id, True))
        assert Ray(url).state(id) is State.succeeded
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(key))
        assert "holds no certificates" in Ray(url).check(job)[0]


@pytest.mark.fault
def test_a_job_outlives_whoever_submitted_it(lab, tmp_path):
    program = (
        "import sys; from pathlib import Path; from cluster.job import Job, Resources; from cluster.ray_clusters.jobs_api import Ray\n"
        "job = Job('outlives', (sys.executable, '-c', \"print('still here')\"), Resources(cpus=0), workdir=Path(sys.argv[1]))\n"
        "print(Ray().submit(job))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert output.returncode == 0, output.stderr
    id = output.stdout.split()[-1]
    assert end(Ray(), id) is State.succeeded
    assert "still here" in "".join(Ray().logs(id, False))


@pytest.mark.fault
def test_status_and_down_of_what_is_busy(lab, tmp_path, capsys):
    id = Ray().submit(Job("sleeps", ("sleep", "600"), Resources(cpus=0), workdir=tmp_path))
    with pytest.raises(UsageError, match=f"still run on lab: {id}"):
        ray_cluster.down()
    assert ray_cluster.status() == 0
    output = capsys.readouterr().out
    assert f"job {id}" in output
    assert "1 CPU, 1 fast" in output
    assert "listens on 127.0.0.1" in output
    assert Path(lab.token).read_text() not in output
    Ray(grace=1).cancel(id)


def turns_of_two(cluster: Cluster, tmp_path: Path) -> list[str]:
    """Whose seeds begin, one after another, where two jobs ask for three each at once, and the cluster has one core."""
    program = (
        "import sys, time; from pathlib import Path; from types import SimpleNamespace\n"
        "from ray_jobs.reproduce.seeds_on_ray import on_cluster\n"
        "folder, mine, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]\n"
        'line = \'import sys; from time import time; open(sys.argv[1], "a").write(f"{sys.argv[2]} {time()}\\\\n")\'\n'
        "build = lambda seed: [sys.executable, '-c', line, str(folder / 'begun'), mine]\n"
        "start, places = on_cluster('auto', 1, build=build)\n"
        "(folder / f'ready-{mine}').touch()\n"
        "while not (folder / f'ready-{other}').exists(): time.sleep(0.05)\n"
        "seeds = [start(SimpleNamespace(log=folder / f'{mine}{i}.log'), i) for i in range(3)]\n"
        "while any([seed.poll() is None for seed in seeds]): time.sleep(0.05)"
    )
    (work := tmp_path / "work").mkdir()
    launcher, ids = Ray(cluster.url), []
    for pair in ("ab", "ba"):
        command = (sys.executable, "-c", program, str(tmp_path), *pair)
        job = Job(pair, command, Resources(cpus=0), env={"PYTHONPATH": str(ROOT)}, workdir=work)
        ids.append(launcher.submit(job))
    assert [end(launcher, id) for id in ids] == [State.succeeded] * 2, "".join(launcher.logs(ids[0], False))
    return [line.split()[0] for line in (tmp_path / "begun").read_text().splitlines()]


@pytest.mark.fault
def test_a_second_cluster_is_apart_its_jobs_take_turns_and_its_end_touches_nothing_else(lab, tmp_path):
    bystander = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
    try:
        assert ray_cluster.up("brief", cpus=1, gpus=0, object_store="80MB") == 0
        brief = record.load("brief")
        with pytest.raises(ValueError, match=r"Several clusters are up here \(lab, brief\)"):
            address_of()
        turns = turns_of_two(brief, tmp_path)
        assert len(turns) == 6
        assert set(turns[:3]) == {"a", "b"}, "one job waits for all of the other's"
        assert nodes.marked(brief)
        assert ray_cluster.down("brief") == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert nodes.marked(brief) == []
    assert not Path(brief.temp).exists()
    assert record.known() == [lab]
    assert lab.lives
    assert len(nodes.nodes(lab)) == 2
