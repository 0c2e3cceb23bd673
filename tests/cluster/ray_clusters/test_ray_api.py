"""What of the Ray launcher the contract does not say: addresses, packages, tokens, and what no node can hold."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.fit import unfit
from cluster.job import Job, LauncherError, Resources, State
from cluster.ray_clusters import jobs_api
from cluster.ray_clusters.address import address_of
from cluster.ray_clusters.jobs_api import Ray
from tests.cluster import heads

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_address(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))  # whatever clusters are up here


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "http://127.0.0.1:8265"),
        ("auto", "http://127.0.0.1:8265"),
        ("http://head:9000/", "http://head:9000"),
        ("https://head/ray", "https://head:8265/ray"),
        ("head:6379", "http://head:8265"),
        ("ray://head:10001", "http://head:8265"),
        ("[::1]:6379", "http://[::1]:8265"),
    ],
)
def test_addresses(given, url):
    assert address_of(given) == url


@pytest.mark.parametrize("given", ["http://", "ftp://head", "head:port", "://", "http://[x"])
def test_what_is_no_address_is_refused(given):
    with pytest.raises(ValueError, match="no address of a Ray cluster"):
        address_of(given)


def test_an_address_given_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere:10001")
    assert address_of() == "http://elsewhere:8265"
    assert Ray("http://here:1").url == "http://here:1"


def test_the_cluster_asked_is_the_one_given_whatever_the_environment_says(monkeypatch, tmp_path):
    head = heads.open_head()
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:2")
    assert Ray(head).check(Job("a", ("true",), workdir=tmp_path)) == []
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:1"
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:2"


def test_a_silent_cluster_is_one_sentence_in_time(tmp_path):
    began = time.monotonic()
    [reason] = Ray("http://127.0.0.1:1").check(Job("a", ("true",), workdir=tmp_path))
    assert "No Ray cluster answers at http://127.0.0.1:1" in reason
    with pytest.raises(LauncherError, match="No Ray cluster answers"):
        Ray("http://127.0.0.1:1").submit(Job("a", ("true",), workdir=tmp_path))
    assert time.monotonic() - began < 5


def test_a_cluster_that_accepts_and_says_nothing_is_given_up(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        with pytest.raises(LauncherError, match="No Ray cluster answers"):
            Ray(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.5).nodes()
        assert time.monotonic() - began < 5


def test_unfit_looks_at_single_nodes():
    small, memory = {"CPU": 4.0, "memory": 2.0**30}, {"CPU": 1.0, "memory": 2.0**40}
    assert unfit(Resources(cpus=4), [small, memory]) == []
    assert "largest node has 4" in unfit(Resources(cpus=5), [small, memory])[0]
    assert "No single node" in unfit(Resources(cpus=4, memory=2**35), [small, memory])[0]
    assert "no living node" in unfit(Resources(), [])[0]


def test_a_package_that_is_too_big_names_its_largest_files(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs_api, "LIMIT", 2**20)
    (tmp_path / "zeros.bin").write_bytes(bytes(2**21))  # packs to almost nothing
    assert jobs_api.too_big(Job("a", ("true",), workdir=tmp_path)) == []
    (tmp_path / "noise.bin").write_bytes(os.urandom(2**21))
    [reason] = jobs_api.too_big(Job("a", ("true",), workdir=tmp_path))
    assert "noise.bin (2.0 MiB)" in reason
    assert ".rayignore" in reason


def test_render_is_what_is_sent_and_names_what_is_not(tmp_path):
    (tmp_path / "kept.py").write_text("x")
    (tmp_path / "model.ckpt").write_text("x")
    job = Job("a", ("python", "two words"), Resources(cpus=2, memory=5), {"A": "1"}, tmp_path)
    title, _, rest = Ray("http://h:1", grace=9).render(job).partition("\n")
    sent, end = json.JSONDecoder().raw_decode(rest)
    assert title.endswith("http://h:1")
    assert sent == {
        "entrypoint": "python 'two words'",
        "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "9", "A": "1"}},
        "entrypoint_num_cpus": 2,
        "entrypoint_memory": 5,
    }
    assert "1 files" in rest[end:]
    assert "left out: model.ckpt" in rest[end:]


def test_packages_for_a_job_are_names_and_versions_alone(tmp_path):
    good = ("einops", "torch[extra]>=2.8,<2.14", "a_b.c-d==1.0.*")
    bad = ("--index-url=http://x", "x; touch y", "a\nb", "../x", "git+https://x", "")
    assert jobs_api.unsafe(good) == []
    assert len(jobs_api.unsafe(bad)) == len(bad)
    job = Job("a", ("true",), workdir=tmp_path)
    assert '"pip": [' in Ray("http://h:1", pip=good).render(job)
    with pytest.raises(LauncherError, match="names no package"):
        Ray("http://h:1", pip=("-r x",)).submit(job)


def test_a_token_that_cannot_be_read_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    [reason] = Ray("http://127.0.0.1:1").check(Job("a", ("true",), workdir=tmp_path))
    assert "cannot be read from" in reason
    assert "RAY_AUTH_TOKEN_PATH" in reason


def test_a_job_the_cluster_does_not_know_is_lost():
    assert Ray(heads.open_head()).state("nobody") is State.lost


def test_tokens(tmp_path):
    """In processes apart, for Ray reads its token once."""
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for path, letter in ((right, "a"), (wrong, "b")):
        path.write_text(letter * 64)
        path.chmod(0o600)
    head = heads.start({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(right)})
    assert "wants a token" in _nodes(head, {"RAY_AUTH_MODE": "disabled"})
    output = _nodes(head, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(wrong)})
    assert "wants a token" in output
    assert "RAY_AUTH_TOKEN_PATH" in output
    assert "bbbb" not in output
    output = _nodes(head, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(right)})
    assert output == "" or "no living node" in output  # it answers; its node may still be joining


def _nodes(head: str, auth: dict[str, str]) -> str:
    """What speaks against an empty job at this head."""
    program = (
        "import sys; from pathlib import Path; from cluster.ray_clusters.jobs_api import Ray\n"
        "from cluster.fit import unfit; from cluster.job import *\n"
        "try: print(*unfit(Resources(), Ray(sys.argv[1]).nodes()))\n"
        "except LauncherError as error: print(error)"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")} | auth
    done = subprocess.run([sys.executable, "-c", program, head], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
