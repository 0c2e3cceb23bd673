"""The batch script word for word, and run by a real bash with stand-ins for Slurm's programs."""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.job import Job, LauncherError, Resources, parse_time
from cluster.slurm import script, submission
from cluster.slurm.launcher import Slurm
from cluster.slurm.nodes import Nodes, gpus_in, nodes_of, unfit

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"
"""A program that prints its arguments, its variables and where it is."""
COMMAND = ("python", "-m", "ray_jobs.cli", "reproduce", "ppo_cartpole", "--seeds", "10")
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).map(lambda name: f"X{name}")
clashing = st.sampled_from(["folder", "task", "code", "child", "asked", "again", "attempt", "attempts", "why", "IFS"])
folders = text.filter(lambda t: t.strip(".") and "/" not in t and not set("\n\\") & set(t))


def place(**more) -> Slurm:
    return Slurm(**({"shared": "/shared/jobs"} | more))


CASES = {
    "one_node": (place(), Job("ppo_cartpole", COMMAND, workdir=Path("/home/me/work"))),
    "two_nodes": (
        place(partition="gpu", time="04:00:00", account="lab", setup=("module load cuda",), array=10, after=("17",)),
        Job(
            "ppo_cartpole", COMMAND, Resources(4, 8, 64 * 2**30, 2), {"HF_TOKEN": "s3cret", "A": "it's"}, Path("/work")
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_script_is_this_one(name):
    launcher, job = CASES[name]
    file = GOLDEN / f"slurm_{name}.sh"
    if os.environ.get("REPRISE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(launcher.render(job))
    assert launcher.render(job) == file.read_text(), "look at the difference; REPRISE_GOLDEN=1 takes it over"
    assert subprocess.run(["bash", "-n", file]).returncode == 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("file", [ROOT / "cluster/slurm/job.sh", *sorted(GOLDEN.glob("*.sh"))], ids=lambda f: f.name)
def test_shellcheck_has_nothing_against_the_scripts(file):
    done = subprocess.run(["shellcheck", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_is_filled_in_is_not_filled_in_again():
    template = "#!/bin/sh\n#@# a comment of the template\n@LINES@\n#@if no\nx\n#@end\n#@if yes\ny=@A@ @B@\n#@end\n"
    filled = script.render(template, {"yes"}, {"LINES": ["@A@", "#@if no"]}, {"A": "@B@", "B": "@A@"})
    assert filled == "#!/bin/sh\n@A@\n#@if no\ny=@B@ @A@\n"


def ran(launcher: Slurm, job: Job, folder: Path, **env: str) -> subprocess.CompletedProcess:
    """The script as a node would run it, but for what Slurm itself does."""
    submission.write_folder(launcher, job, folder)
    with tempfile.TemporaryDirectory() as programs:
        for name, line in {"squeue": "echo RUNNING", "scontrol": f'echo "$@" >> {programs}/../requeued'}.items():
            (Path(programs) / name).write_text(f"#!/bin/sh\n{line}\n")
            (Path(programs) / name).chmod(0o755)
        path = {"PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", **env}
        return subprocess.run(["bash", str(folder / "script")], env=path, capture_output=True, timeout=60)


@settings(max_examples=25, deadline=None)
@given(st.lists(text, max_size=4), st.dictionaries(names | clashing, text, max_size=4), folders, folders, st.booleans())
def test_whatever_is_typed_arrives_as_it_is(words, env, shared, work, secret):
    with tempfile.TemporaryDirectory() as scratch:
        here, workdir = Path(scratch) / "a" / shared, Path(scratch) / "b" / work
        workdir.mkdir(parents=True)
        words = [*words, "--a.token=$(id) `id` 'x'"] if secret else words
        env = env | {"A_TOKEN": "\"'$x\n"} if secret else env
        job = Job("job", (sys.executable, "-ISX", "utf8", "-c", SHOW, *words), env=env, workdir=workdir)
        done = ran(Slurm(shared=str(here)), job, here / "job-1")
        assert done.returncode == 0, done.stderr
        arguments, variables, where = json.loads(done.stdout)
        assert arguments == words
        assert {name: variables.get(name) for name in env} == env
        assert where == str(workdir)


@pytest.mark.parametrize(("code", "event"), [(0, "done 0"), (3, "done 3"), (75, "again 75")])
def test_the_record_says_how_it_went(tmp_path, code, event):
    job = Job("job", (sys.executable, "-c", f"raise SystemExit({code})"), workdir=tmp_path)
    done = ran(Slurm(shared=str(tmp_path)), job, tmp_path / "job-1", SLURM_RESTART_COUNT="1")
    assert done.returncode == code
    lines = (tmp_path / "job-1/record").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["-", "2"], ["-", "2"]]
    assert lines[1].endswith(event)


def test_a_working_directory_that_is_gone_fails(tmp_path):
    job = Job("job", ("true",), workdir=tmp_path / "gone")
    done = ran(Slurm(shared=str(tmp_path)), job, tmp_path / "job-1")
    assert done.returncode == 1
    assert b"gone" in done.stderr


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90", 5400), ("1:30", 90), ("04:00:00", 14400), ("2-12", 216000), ("1-00:30", 88200), ("1-0:0:5", 86405),
        ("UNLIMITED", math.inf),
    ],
)  # fmt: skip
def test_times(written, meant):
    assert parse_time(written) == meant


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("time", "4h", "no time limit"),
        ("time", "1:2:3:4", "no time limit"),
        ("partition", "a b", "no partition"),
        ("account", "x\n#SBATCH --qos=y", "no account"),
        ("constraint", 'a"b', "no constraint"),
        ("grace", -1, "--grace must be"),
        ("attempts", -1, "--attempts must be"),
        ("array", -2, "--array must be"),
        ("min_nodes", -1, "--min_nodes must be"),
        ("after", ("1;rm",), "--after names jobs"),
    ],
)
def test_what_no_slurm_takes_is_refused_at_once(field, value, expected):
    with pytest.raises(ValueError, match=expected):
        Slurm(**{field: value})


SINFO = "gpu*|1-00:00:00|4|64|512000|gpu:a100:8(S:0-1),nvme:1\ngpu*|1-00:00:00|2|128|1000000|(null)\ncpu|infinite|9|32|64000|(null)\n"


def test_sinfo_is_read():
    first, second, third = nodes_of(SINFO)
    assert first == Nodes("gpu", True, 86400, 4, 64, 512000 * 2**20, 8)
    assert (second.gpus, third.default, third.limit) == (0, False, math.inf)
    assert gpus_in("gpu:2,gpu:tesla:1,mps:100") == 3


@pytest.mark.parametrize(
    ("wanted", "partition", "time", "expected"),
    [
        (Resources(64, 8, 2**30, 4), "", "12:00:00", []),
        (Resources(nodes=7), "", "", ["7 nodes"]),
        (
            Resources(cpus=129, gpus=9, memory=2**50),
            "gpu",
            "2-0",
            ["129 CPU", "9 GPUs", "GiB of memory", "above the 24"],
        ),
        (Resources(cpus=128, gpus=8), "gpu", "", ["Only 0 nodes of gpu"]),
        (Resources(gpus=8, nodes=5), "gpu", "", ["Only 4 nodes of gpu"]),
        (Resources(cpus=100), "cpu,gpu", "", []),
        (Resources(cpus=float("nan")), "cpu", "", ["nan CPU"]),
        (Resources(), "gpus", "", ["no partition 'gpus', only cpu, gpu. Did you mean 'gpu'?"]),
    ],
)
def test_every_reason_is_named(wanted, partition, time, expected):
    reasons = unfit(wanted, partition, time, nodes_of(SINFO))
    assert len(reasons) == len(expected)
    assert all(text in reason for text, reason in zip(expected, reasons, strict=True))
    assert all(reason.endswith((".", "?")) for reason in reasons)


def test_without_slurm_the_reason_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    place = Slurm(shared=str(tmp_path / "gone"), time="1", grace=90)
    reasons = place.check(Job("job", ("x",), Resources(gpus=0.5), {"a.b": ""}, tmp_path / "nowhere"))
    for text in ("no folder", "--shared", "leaves nothing before", "whole GPUs", "cannot name a variable", "no sinfo"):
        assert sum(text in reason for reason in reasons) == 1, text
    with pytest.raises(LauncherError, match="no Slurm job"):
        place.state("job-00000000")
