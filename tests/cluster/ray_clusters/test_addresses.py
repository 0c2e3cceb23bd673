"""Addresses of Ray clusters: odd ones are refused in one sentence, unknown ones of run folders are not used, and no proxy is asked here."""

import http.server
import json
import os
import threading

import pytest

from cluster.job import LauncherError
from cluster.ray_clusters.address import address_of
from cluster.ray_clusters.http import ask, loopback_direct, without_proxy
from cluster.trust import ADDRESSES, knows, remember
from ray_jobs import cli
from ray_jobs.distributed.connection import cluster_address, refuse_unknown
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run

ODD = ["", " ", "h:1 ", " h:1", "h :1", "\th:1", "h:1\n", "a\x1b[2J:1", "\u202eh:1"]


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server():
    """A server that answers with JSON, leads /away elsewhere, and keeps the headers that it got."""
    got = []

    class Ear(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            got.append((self.path, dict(self.headers)))
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{self.server.server_port}/caught")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Ear) as ear:
        thread = threading.Thread(target=ear.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{ear.server_port}", got
        ear.shutdown()
        thread.join()


@pytest.mark.parametrize("address", ODD)
def test_odd_addresses_are_refused_in_one_sentence(address, capsys, tmp_path):
    with pytest.raises(UsageError, match="without blanks"):
        cluster_address(address)
    if address:
        with pytest.raises(ValueError, match="no address"):
            address_of(address)
    for words in (["train", "ddpm_mixture2d"], ["reproduce", "ddpm_mixture2d"], ["tune", "ddpm_mixture2d"]):
        assert cli.main([*words, "--out", str(tmp_path / "out"), f"--address={address}"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "\x1b" not in said and "--address" in said
    assert not (tmp_path / "out/run.json").exists()


def test_a_dashboards_address_is_no_address_of_ray(monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    for words in (["train", "ddpm_mixture2d"], ["reproduce", "ddpm_mixture2d"], ["tune", "ddpm_mixture2d"]):
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert "RAY_ADDRESS http://127.0.0.1:8265 is a dashboard's address" in said and "cluster env" in said


def test_blanks_in_the_environment_do_not_count(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", " ")
    assert cluster_address(None) is None
    assert address_of("") == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", " h:6379 ")
    assert cluster_address(None) == "h:6379"


# ---- which addresses get the user's code and token


def test_the_address_of_a_run_folder_is_used_only_where_the_user_gave_it(tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    spec = Spec("ppo_cartpole", {}, 0, Where(runners=1, address="198.51.100.7:6379"), str(run))
    Run.create(spec, kind="Play").release()
    assert cli.main(["resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert "198.51.100.7:6379" in said and "you never gave this address" in said and said.count("\n") == 1
    remember("198.51.100.7:6379", ADDRESSES)
    refuse_unknown("198.51.100.7:6379")
    assert (tmp_path / "state/addresses").stat().st_mode & 0o777 == 0o600
    (tmp_path / "state/addresses").chmod(0o622)
    with pytest.raises(UsageError):
        refuse_unknown("198.51.100.7:6379")


def test_an_address_that_was_given_is_known(tmp_path, capsys):
    assert not knows("127.0.0.1:9", ADDRESSES)
    assert cli.main(["train", "ppo_cartpole", "--runners", "1", "--address", "127.0.0.1:9", "--out", "run"]) == 2
    assert "No Ray cluster answers at 127.0.0.1:9" in capsys.readouterr().err
    assert knows("127.0.0.1:9", ADDRESSES)
    assert json.loads((tmp_path / "run/run.json").read_text())["where"]["address"] == "127.0.0.1:9"
    assert cli.main(["resume", "run"]) == 2
    assert "No Ray cluster answers" in capsys.readouterr().err
    for address in (None, "local"):
        refuse_unknown(address)


def test_an_address_where_nothing_answers_is_refused_in_a_process_that_has_ray(ray_cluster, capsys):
    for words in (["train", "ppo_cartpole", "--runners", "1"], ["tune", "ppo_cartpole", "--trials", "1"]):
        assert cli.main([*words, "--address", "127.0.0.1:9", "--out", words[0]]) == 2
        assert "No Ray cluster answers at 127.0.0.1:9" in capsys.readouterr().err


def test_a_token_does_not_follow_a_redirection(server):
    url, got = server
    assert ask(url, "/x", headers={"Authorization": "Bearer t0ken"}) == {}
    with pytest.raises(LauncherError, match="302"):
        ask(url, "/away", headers={"Authorization": "Bearer t0ken"})
    assert [path for path, _ in got] == ["/x", "/away"]


# ---- proxies


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_no_proxy_is_asked_for_this_machine(name, server, monkeypatch):
    url, got = server
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(url, "/x") == {}
    import requests

    with loopback_direct(url):
        assert requests.get(f"{url}/y", timeout=10).status_code == 200
    assert len(got) == 2 and "no_proxy" not in os.environ


def test_a_proxy_is_asked_for_other_machines(server, monkeypatch):
    proxy, got = server
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "other.example")
    assert ask("http://cluster.example:8265", "/x") == {}
    assert got[0][0] == "http://cluster.example:8265/x"
    assert without_proxy("127.0.0.2")["no_proxy"] == "other.example,localhost,127.0.0.1,::1,[::1],127.0.0.2"
