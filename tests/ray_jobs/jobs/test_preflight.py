"""What a command's files say before it is sent: which folders it writes, what they hold already, and who can see them."""

import json
import re
from pathlib import Path

import pytest

from cluster import storage
from cluster.backends import BACKENDS, Backend
from ray_jobs.command.requests import parse
from ray_jobs.errors import UsageError
from ray_jobs.jobs import preflight
from ray_jobs.jobs.continuation import continuation, find_run
from ray_jobs.jobs.storage_warnings import storage_warnings
from ray_jobs.run.files import write_json
from ray_jobs.tune import search, tune

HERE, AWAY, COPY = BACKENDS["local"], Backend("x:X"), Backend("x:X", copies=True)
RECIPE = "ddpm_mixture2d"
RECORD = {"recipe": RECIPE, "settings": {}, "seed": 0, "where": {}, "started": "2026-01-01T00:00:00+00:00"}


def run_at(folder: str, **more: object) -> None:
    write_json(Path(folder) / "run.json", RECORD | more)


@pytest.mark.parametrize(
    ("line", "folders"),
    [
        (f"train {RECIPE}", []),
        (f"train {RECIPE} --out runs/x --lr 1e-3", ["runs/x"]),
        (f"train {RECIPE} -o s3://bucket/x", ["s3://bucket/x"]),
        ("resume runs/x", ["runs/x"]),
        ("tune ppo_cartpole --out s", ["s"]),
        ("tune --resume runs/s --trials 9", ["runs/s"]),
        ("reproduce ppo_cartpole dqn_cartpole --out r/", ["r/ppo_cartpole", "r/dqn_cartpole"]),
        ("reproduce ppo_cartpole", ["runs/reproduce/ppo_cartpole"]),
        ("demo --out=d", ["d"]),
        ("demo", []),
        ("list", []),
        ("report --out page.html", []),
    ],
)
def test_the_folders_of_a_command(line, folders):
    assert preflight.run_folders(line.split()) == folders


def test_a_search_without_out_has_the_folder_that_tune_would_take():
    words = ["ppo_cartpole", "--trials", "3", "--space.lr", "loguniform(1e-4,1e-2)"]
    [folder] = preflight.run_folders(["tune", *words])
    spec = parse(["tune", *words]).spec
    made = tune.made(spec, {"lr": "loguniform(1e-4,1e-2)"}, 3, "asha", "random", None, None)
    assert folder == str(search.default_out(made))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (f"train {RECIPE} --out taken", "taken already holds a run: submit `resume taken`"),
        ("resume nowhere", "nowhere is not a run folder"),
        ("resume done", "done is finished"),
        ("tune ppo_cartpole --out taken", "taken holds a run, not a search"),
        ("tune ppo_cartpole --out other", "other holds another search: its seed"),
        ("tune --resume taken", "taken holds no search to resume"),
        ("tune ppo_cartpole --space.lr nonsense(", "nonsense"),
        (f"reproduce {RECIPE} --out r", r"seed-0 holds a run of other settings \(lr\)"),
        (f"train {RECIPE} --out file/x", "file/x cannot be written"),
        ("train maf_uci", "maf_uci reads data that must be fetched first: give --folder"),
        ("train maf_uci --folder ./none", "There is no ./none, which --folder of maf_uci names"),
        ("train ddpm_cifar10 --data_dir /no/such", "There is no /no/such, which --data_dir"),
    ],
)
def test_what_speaks_against_a_command(line, sentence):
    run_at("taken")
    run_at("done")
    write_json(Path("done/result.json"), {"metrics": {}})
    run_at(f"r/{RECIPE}/seed-0", settings={"lr": 0.5})
    Path("file").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "default_out", lambda _: Path("free"))
        other = parse(["tune", "ppo_cartpole", "--seed", "7"])
        search.enter(Path("other"), tune.made(other.spec, None, None, "asha", "random", None, None))
    try:
        output = " ".join(preflight.reasons_against(line.split(), HERE))
    except UsageError as error:
        output = str(error)
    assert re.search(sentence, output), output


@pytest.mark.parametrize(
    "line",
    [f"train {RECIPE} --out fresh", f"train {RECIPE}", "list", "tune ppo_cartpole --out fresh", "reproduce ppo_cartpole", "demo",
     "train wavenet_librispeech"],
)  # fmt: skip
def test_nothing_speaks_against_what_can_be(line):
    assert preflight.reasons_against(line.split(), HERE) == []


def test_a_copy_is_not_judged_by_the_files_here():
    run_at("taken")
    assert preflight.reasons_against(["train", RECIPE, "--out", "taken"], COPY) == []
    assert preflight.reasons_against(["train", "maf_uci", "--folder", "/there"], COPY) == []


def test_a_remote_folder_is_looked_into_from_anywhere(tmp_path):
    run_at(str(tmp_path / "bucket/x"))
    for backend in (HERE, AWAY, COPY):
        [output] = preflight.reasons_against(["train", RECIPE, "--out", f"file://{tmp_path}/bucket/x"], backend)
        assert "already holds a run" in output


# ---- storage


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    table = tmp_path / "mounts"
    table.write_text(f"/dev/sda / ext4 rw 0 0\ns:/h {tmp_path}/project nfs rw 0 0\ntmpfs {tmp_path}/ram tmpfs rw 0 0\n")
    monkeypatch.setattr(storage, "warning", lambda path, what, ask=storage.warning: ask(path, what, table))


def test_folders_that_other_machines_cannot_see_are_doubted(mounts, tmp_path):
    train = ["train", RECIPE]
    assert storage_warnings(train, HERE, tmp_path / "ram") == []
    assert storage_warnings(train, AWAY, Path.cwd()) == []
    [output] = storage_warnings(train, AWAY, tmp_path / "ram")
    assert output.startswith(f"The working directory {tmp_path}/ram lies on tmpfs")
    [output] = storage_warnings([*train, "--out", f"{tmp_path}/ram/x"], AWAY, Path.cwd())
    assert output.startswith(f"--out {tmp_path}/ram/x lies on tmpfs")
    assert storage_warnings([*train, "--out", "s3://b/x"], AWAY, Path.cwd()) == []


@pytest.mark.parametrize(
    ("out", "sentence"),
    [("", "a copy of this folder"), ("runs/x", "a copy of this folder"), ("/tmp/x", "each machine has for itself"),
     ("/shared/x", ""), ("s3://b/x", "")],
)  # fmt: skip
def test_results_of_a_copy_must_outlive_it(out, sentence):
    output = " ".join(storage_warnings(["train", RECIPE, *(["--out", out] if out else [])], COPY, Path.cwd()))
    assert sentence in output and bool(sentence) == bool(output)
    assert storage_warnings(["list"], COPY, Path.cwd()) == []


# ---- continuing


def test_a_training_continues_where_its_folder_is():
    train = ["train", RECIPE, "--lr", "1e-3"]
    assert continuation([*train, "--out", "x"], 0) == [*train, "--out", "x"]  # it never began
    run_at("x")
    assert continuation([*train, "--out", "x"], 0) == ["resume", "x"]
    write_json(Path("x/result.json"), {"metrics": {}})
    with pytest.raises(UsageError, match="x is finished"):
        continuation([*train, "--out", "x"], 0)
    run_at(f"runs/{RECIPE}-seed0-20260101-000000", command=f"reprise train {RECIPE} --lr 1e-3")
    since = 1767225600.0  # 2026-01-01
    assert continuation(train, since) == ["resume", f"runs/{RECIPE}-seed0-20260101-000000"]
    assert continuation(train, since + 60) == train  # that run is an older job's
    assert continuation([*train, "--seed", "1"], since) == [*train, "--seed", "1"]


def test_a_run_that_names_its_job_belongs_to_it_alone():
    train = ["train", RECIPE]
    run_at(f"runs/{RECIPE}-seed0-1", command=f"reprise train {RECIPE}", job="a-1")
    run_at(f"runs/{RECIPE}-seed0-2", command=f"reprise train {RECIPE}", job="a-2")
    assert find_run(train, 0, job="a-1") == f"runs/{RECIPE}-seed0-1"
    assert find_run(train, 0, job="a-3") == ""


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"command": 1}', json.dumps({"command": f"reprise train {RECIPE}", "started": "x"})]
)
def test_a_damaged_run_is_passed_over(text):
    folder = Path(f"runs/{RECIPE}-seed0-1")
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(text)
    assert find_run(["train", RECIPE], 0) == ""


@pytest.mark.parametrize("line", ["reproduce ppo_cartpole", "tune ppo_cartpole", "resume x", "demo --out d", "list"])
def test_all_other_verbs_continue_by_themselves(line):
    assert continuation(line.split(), 0) == line.split()


LARGE = "train ddpm_mnist --batch 4096"


@pytest.mark.parametrize(
    ("line", "memory"),
    [
        (LARGE, 0),
        (f"{LARGE}", 80),
        (f"{LARGE} --accelerator cpu", 1),
        ("train ppo_cartpole", 0.001),
        ("list", 0.001),
        (f"tune {RECIPE}", 0.001),
    ],
)
def test_what_fits_or_cannot_be_known_is_not_refused(line, memory):
    assert preflight.too_large(line.split(), memory) == []


def test_a_training_that_cannot_fit_is_refused_with_what_fits():
    [reason] = preflight.too_large(f"{LARGE} --workers 2".split(), 2)
    assert re.match(r"ddpm_mnist needs about \d+\.\d+ GiB on each of --workers 2, and 90% of 2 GiB are free", reason)
    [workers] = re.findall(r"What fits: (\d+) of 2 GiB", reason)
    assert int(workers) > 2 and "\n" not in reason
    assert preflight.too_large(f"{LARGE} --workers {workers}".split(), 2) == []
    assert preflight.too_large(f"{LARGE} --workers {int(workers) // 2}".split(), 2)
    with pytest.raises(UsageError, match="gpu_memory"):
        preflight.too_large(LARGE.split(), -1)
