"""Profiles: two files become one, each value as it is written; what is wrong is said with file and line."""

from pathlib import Path

import pytest

from cluster import profiles
from cluster.job import LauncherError
from tests.cluster import approving


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A project, and a configuration folder of the user's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    (tmp_path / "config/reprise").mkdir(parents=True)
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    monkeypatch.chdir(project)
    return project


def contents(profile: profiles.Profile) -> dict[str, profiles.Content]:
    return {key: value.content for key, value in profile.items()}


def test_the_project_wins_key_by_key(here):
    own = here.parent / "config/reprise/clusters.yaml"
    own.write_text("lab: {on: slurm, partition: cpu, time: 12:00:00, env: {A: 1, B: 2}}\nmine: {on: ray}\n")
    approving.write("lab:\n  partition: gpu\n  gpus-per-node: 8\n  env: {B: 3}\n", here / "clusters.yaml")
    found = profiles.load()
    assert set(found) == {"lab", "mine"}
    assert contents(found["lab"]) == {
        "on": "slurm", "partition": "gpu", "time": "12:00:00", "gpus_per_node": "8", "env": {"A": "1", "B": "3"},
    }  # fmt: skip
    assert found["lab"]["partition"].where == f"{here / 'clusters.yaml'}, line 2"
    assert found["lab"]["time"].where == f"{own}, line 1"


@pytest.mark.parametrize("name", profiles.FILES)
def test_a_project_is_found_from_below_and_ends_with_its_checkout(here, name, monkeypatch):
    (here / name).parent.mkdir(exist_ok=True)
    approving.write("lab: {on: ray}", here / name)
    below = here / "a/b"
    below.mkdir(parents=True)
    assert set(profiles.load(below)) == {"lab"}
    (below / ".git").mkdir()
    assert profiles.load(below) == {}
    (below / ".git").rmdir()
    (here / ".git").rmdir()  # no checkout: who knows who wrote what lies above
    assert profiles.load(below) == {}
    assert set(profiles.load(here)) == {"lab"}


def test_both_files_of_a_project_count(here):
    (here / ".reprise").mkdir()
    approving.write("lab: {on: ray, address: 'h:1'}", here / "clusters.yaml")
    approving.write("lab: {address: 'h:2'}", here / ".reprise/clusters.yaml")
    assert contents(profiles.load()["lab"]) == {"on": "ray", "address": "h:2"}


def test_the_users_file_lies_where_the_xdg_specification_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # which is ignored
    path = tmp_path / ".config/reprise/clusters.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert profiles.files(Path("/")) == [path]
    assert profiles.load(Path("/")) == {}


def test_values_stay_as_they_are_written(here):
    approving.write(
        "lab:\n  on: slurm\n  time: 12:00:00\n  account: 0123\n  constraint: yes\n  qos: ''\n"
        "  setup: ['module load cuda', \"echo 'x y'\"]\n  env: {HF_TOKEN: , HOME_: ~, EMPTY: '', N: 0x10}\n",
        here / "clusters.yaml",
    )
    assert contents(profiles.load()["lab"]) == {
        "on": "slurm", "time": "12:00:00", "account": "0123", "constraint": "yes", "qos": "",
        "setup": ("module load cuda", "echo 'x y'"), "env": {"HF_TOKEN": None, "HOME_": None, "EMPTY": "", "N": "0x10"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lab: {on: [slurm", "is not YAML"),
        ("- a\n- b", "must hold 'name: value' lines"),
        ("lab: slurm", r"The profile 'lab' in .*line 1, must hold"),
        ("lab:\n  on: slurm\n  on: ray", r"line 3: 'on' is there twice"),
        ("lab: {on: ray}\nlab: {on: ray}", r"line 2: 'lab' is there twice"),
        ("lab:\n  on: slurm\n  partition: {a: b}", r"line 3: partition takes one value or a list"),
        ("lab:\n  env: A=1", r"line 2: env takes names and values"),
        ("lab:\n  env: {A: [1]}", r"line 2.*one word or text"),
        ("lab:\n  env: {HF_TOKEN: abc}", r"line 2: HF_TOKEN looks like a secret.*`env: \{HF_TOKEN: \}`"),
        ("lab:\n  token: abc", r"line 2: token looks like a secret"),
        ("lab:\n  setup: [export WANDB_API_KEY=abc]", r"line 2: WANDB_API_KEY looks like a secret"),
        ("? [a]\n: b", r"one word or text"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(here, text, sentence):
    approving.write(text, here / "clusters.yaml")
    with pytest.raises(LauncherError, match=sentence) as refused:
        profiles.load()
    assert "clusters.yaml" in str(refused.value)
    assert "abc" not in str(refused.value)


def test_bytes_that_are_no_text_are_refused(here):
    approving.write(b"\xff\xfe\x00lab", here / "clusters.yaml")
    with pytest.raises(LauncherError, match="cannot be read"):
        profiles.load()


def test_secrets_by_reference_are_allowed(here):
    approving.write("lab: {secrets: [HF_TOKEN=hub/token], setup: [export HF_TOKEN=$MINE]}", here / "clusters.yaml")
    assert contents(profiles.load()["lab"])["secrets"] == ("HF_TOKEN=hub/token",)
