"""Jobs on a real Slurm: stopped ones save, go back into the queue and continue; several nodes share a Ray; arrays gather."""

import getpass
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cluster.job import Job, LauncherError, Resources, State
from cluster.slurm.launcher import Slurm
from tests.cluster import slurms, waiting

pytestmark = pytest.mark.fault

ROOT = Path(__file__).parents[3]
SAVES = """
import os, pathlib, signal, sys, time
saved = pathlib.Path(sys.argv[1])
begun = int(saved.read_text()) if saved.exists() else 0
def save(*_):
    saved.write_text(str(begun + 1))
    print('saved', begun + 1, flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print('attempt', os.environ['REPRISE_ATTEMPT'], 'from', begun, flush=True)
while begun < 1: time.sleep(0.05)
print('finished', flush=True)
"""
"""A command that continues until it is stopped once, saves, and finishes when it is started again."""


@pytest.fixture(scope="module", autouse=True)
def slurm():
    slurms.open_slurm()
    yield
    ask("scancel", f"--user={getpass.getuser()}", "--quiet", check=False)


@pytest.fixture()
def shared(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "work").mkdir()
    return tmp_path / "shared"


def place(folder: Path, **more) -> Slurm:
    return Slurm(**({"shared": str(folder), "partition": "low", "grace": 5} | more))


def python(shared: Path, program: str, *arguments: str, **more) -> Job:
    return Job("job", (sys.executable, "-c", program, *arguments), workdir=shared.parent / "work", **more)


def ask(*line: str, check: bool = True) -> str:
    return subprocess.run(line, check=check, capture_output=True, text=True, timeout=60).stdout


until = partial(waiting.until, seconds=60)


def printed(place: Slurm, id: str) -> str:
    return "".join(place.logs(id, False))


def number(shared: Path, id: str) -> str:
    """Slurm's own id."""
    return json.loads((shared / id / "job.json").read_text())["slurm"][-1]


def queued(number: str) -> str:
    return ask("squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T %r", check=False).strip()


def hurry(number: str) -> None:
    """A requeued job waits two minutes; here a little more than the second in which a node still refuses it."""
    until(lambda: "PENDING BeginTime" in queued(number))
    ask("scontrol", "update", f"JobId={number}", "StartTime=now+2")


def test_the_state_is_pending_before_it_starts_and_the_exit_code_is_kept(shared):
    low = place(shared)
    first = low.submit(python(shared, "import time; time.sleep(1.5); raise SystemExit(7)"))
    second = place(shared, after=(first,)).submit(python(shared, "print('never')"))
    assert low.state(second) is State.pending
    assert low.history(second).why == "Dependency"
    assert low.exit_code(first) is None
    until(lambda: low.state(first).ended)
    assert low.state(first) is State.failed
    assert low.exit_code(first) == 7
    until(lambda: low.state(second) is State.cancelled)  # what it waits for will never succeed
    assert printed(low, second) == ""


def test_a_job_waits_for_another(shared):
    low = place(shared)
    first = low.submit(python(shared, "import time; time.sleep(1); open('made', 'w').write('it')"))
    second = place(shared, after=(first, number(shared, first))).submit(python(shared, "print(open('made').read())"))
    assert "it" in "".join(low.logs(second, True))
    assert low.state(second) is State.succeeded


@pytest.mark.fault("job", "Slurm preempts a job (partition {partition})")
@pytest.mark.parametrize("partition", ["low", "gentle"])
def test_a_job_that_is_told_to_make_room_continues_later(shared, partition, fault):
    low, high, node = place(shared, partition=partition), place(shared, partition="high"), Resources(cpus=2)
    first = low.submit(python(shared, SAVES, str(shared.parent / "saved"), resources=node))
    until(lambda: "attempt 1 from 0" in printed(low, first))
    everything = [high.submit(python(shared, "import time; time.sleep(600)", resources=node)) for _ in range(3)]
    until(lambda: "saved 1" in printed(low, first))
    assert not low.state(first).ended
    for id in everything:
        high.cancel(id)
    hurry(number(shared, first))
    continued_from(low, first, fault)


def continued_from(place: Slurm, id: str, fault) -> None:
    """The second attempt began where the first had saved, and finished."""
    text = "".join(place.logs(id, True))
    fault.saw(text, "saved 1")
    fault.lost(1 - int(fault.saw(text, "attempt 2").rpartition(" ")[2]), 0, "saved steps")
    assert text.endswith("finished\n")
    fault.equal(place.state(id) is State.succeeded, "succeeded, in one more attempt")


@pytest.mark.fault("job", "a Slurm job comes to its time limit")
def test_a_job_saves_before_its_time_limit_and_continues(shared, fault):
    short = place(shared, time="1", grace=58)
    id = short.submit(python(shared, SAVES, str(shared.parent / "saved")))
    until(lambda: "saved 1" in printed(short, id))
    hurry(number(shared, id))
    continued_from(short, id, fault)
    assert short.history(id).attempts == 2


def test_it_is_not_put_back_more_often_than_was_asked_for(shared):
    once = place(shared, attempts=1)
    id = once.submit(python(shared, "raise SystemExit(75)"))
    hurry(number(shared, id))
    until(lambda: once.state(id).ended)
    assert once.state(id) is State.failed
    assert once.exit_code(id) == 75
    assert "at most 1 times" in printed(once, id)


def test_a_lost_node_costs_one_attempt(shared):
    low = place(shared)
    program = "import os, time; n = os.environ['REPRISE_ATTEMPT']; print('attempt', n, flush=True); time.sleep(600 * (n == '1'))"
    id = low.submit(python(shared, program))
    until(lambda: "attempt 1" in printed(low, id))
    node = ask("squeue", "--noheader", f"--jobs={number(shared, id)}", "--format=%N").strip()
    slurms.crash(node, number(shared, id))
    try:
        hurry(number(shared, id))
        assert low.state(id) in (State.pending, State.running, State.succeeded)
        until(lambda: low.state(id).ended)
    finally:
        slurms.repair(node)
    assert low.state(id) is State.succeeded
    assert "attempt 2" in printed(low, id)


def test_what_scancel_ended_stays_ended(shared):
    low = place(shared)
    id = low.submit(python(shared, SAVES, str(shared.parent / "saved")))
    until(lambda: "attempt 1" in printed(low, id))
    ask("scancel", number(shared, id))
    until(lambda: low.state(id).ended)
    assert low.state(id) is State.cancelled


def test_a_job_that_has_not_begun_is_cancelled(shared):
    first = place(shared).submit(python(shared, "import time; time.sleep(600)"))
    second = place(shared, after=(first,)).submit(python(shared, "print('never')"))
    for id in (second, first):
        place(shared).cancel(id)
    until(lambda: place(shared).state(second).ended)
    assert place(shared).state(second) is State.cancelled
    assert printed(place(shared), second) == ""


def test_secrets_are_in_private_files_alone_until_the_end(shared):
    program = (
        "import os, sys, time\nprint(len(sys.argv[1]), len(os.environ['A_TOKEN']), flush=True)\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.05)"
    )
    job = python(shared, program, "--hub.token=s3cret", str(shared / "go"), env={"A_TOKEN": "s3cr3t"})
    id = place(shared).submit(job)

    def holding() -> list[Path]:
        return [p for p in (shared / id).iterdir() if "s3cret" in p.read_text() or "s3cr3t" in p.read_text()]

    until(lambda: "18 6" in printed(place(shared), id))
    assert sorted(p.name for p in holding()) == ["secrets", "words"]
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in holding())
    (shared / "go").touch()
    until(lambda: holding() == [])


@pytest.mark.parametrize("name", ["two words", 'it\'s "so"', "50%j $HOME `x` #;&", "ü"])
def test_folders_of_any_name(shared, name):
    for folder in (shared / name, shared.parent / "work" / name):
        folder.mkdir()
    low = place(shared / name)
    job = Job("job", (sys.executable, "-c", "import os; print(os.getcwd())"), workdir=shared.parent / "work" / name)
    assert low.check(job) == []
    assert f"work/{name}\n" in "".join(low.logs(low.submit(job), True))


def test_without_a_shared_folder_it_lies_beside_the_work(shared, monkeypatch):
    monkeypatch.setenv("REPRISE_STATE", str(shared.parent / "state"))
    job = python(shared, "print('here')")
    id = Slurm().submit(job)
    assert "here" in "".join(Slurm().logs(id, True))
    assert (job.workdir / ".reprise/slurm" / id / "script").exists()
    assert (job.workdir / ".reprise/slurm/.gitignore").read_text() == "*\n"


def test_setup_runs_first_and_gpus_are_given(shared):
    program = "import os; print(os.environ['MADE'], os.environ['SLURM_GPUS_ON_NODE'])"
    low = place(shared, setup=("export MADE=$((40 + 2))",))
    assert "42 2" in "".join(low.logs(low.submit(python(shared, program, resources=Resources(gpus=2))), True))


def test_what_slurm_refuses_is_one_sentence_and_leaves_nothing(shared):
    with pytest.raises(LauncherError, match=r"Slurm refused: .*partition"):
        place(shared, partition="nowhere").submit(python(shared, "print()"))
    assert list(shared.iterdir()) == []


def test_several_nodes_share_a_ray(shared):
    program = (
        "import os, ray; ray.init(log_to_driver=False); n = ray.nodes()\n"
        "print('NODES', sum(x['Alive'] for x in n), ray.cluster_resources()['CPU'], os.environ['RAY_ADDRESS'] != '')\n"
        "token = os.environ['RAY_AUTH_TOKEN_PATH']; print('TOKEN', oct(os.stat(token).st_mode), open(token).read())\n"
        "raise SystemExit(5)"
    )
    low = place(shared)
    id = low.submit(python(shared, program, resources=Resources(cpus=2, nodes=2)))
    text = "".join(low.logs(id, True))
    assert "NODES 2 4.0 True" in text
    assert low.exit_code(id) == 5
    mode, token = text.partition("TOKEN ")[2].split()[:2]
    assert mode == "0o100600"
    assert token not in (shared / id / "script").read_text()
    until(lambda: "COMPLETING" not in queued(number(shared, id)))
    assert not list(Path("/tmp").glob(f"rp-{number(shared, id)}-*"))
    assert not [p for p in _processes() if f"/tmp/rp-{number(shared, id)}-" in p]


def test_a_job_begins_with_fewer_nodes_where_it_may(shared):
    """One of three nodes is taken: for two of them it waits in vain, and with one to three it begins on two at once."""
    taken = place(shared).submit(python(shared, "import time; time.sleep(600)", resources=Resources(cpus=2)))
    until(lambda: queued(number(shared, taken)).startswith("RUNNING"))
    program = "import ray; ray.init(log_to_driver=False); print('NODES', sum(x['Alive'] for x in ray.nodes()))"
    wanted = Resources(cpus=2, nodes=3)
    waits = place(shared).submit(python(shared, program, resources=wanted))
    until(lambda: queued(number(shared, waits)) == "PENDING Resources")
    place(shared).cancel(waits)
    fewer = place(shared, min_nodes=1)
    assert fewer.check(python(shared, program, resources=wanted)) == []
    printed = "".join(fewer.logs(fewer.submit(python(shared, program, resources=wanted)), True))
    assert "NODES 2" in printed
    place(shared).cancel(taken)


def test_more_nodes_to_begin_with_than_there_are_in_all_is_one_sentence(shared):
    reasons = place(shared, min_nodes=3).check(python(shared, "print()", resources=Resources(nodes=2)))
    assert reasons == ["--min_nodes 3 is more than --nodes 2: it is the fewest nodes to start with."]


def _processes() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def test_the_tasks_of_an_array_share_the_work_and_one_job_gathers(shared):
    program = (
        "import os, pathlib, time; task = os.environ.get('REPRISE_TASK'); time.sleep(2 * bool(task))\n"
        "if task: pathlib.Path('made-' + task).touch(); print('task', task, 'of', os.environ['REPRISE_TASKS'])\n"
        "else: print('gathered', sorted(p.name for p in pathlib.Path().glob('made-*')))"
    )
    low = place(shared, array=3)
    id = low.submit(python(shared, program))
    lines = "".join(low.logs(id, True)).splitlines()
    assert sorted(lines[:-1]) == [f"[{i}] task {i} of 3" for i in range(3)]
    assert lines[-1] == "gathered ['made-0', 'made-1', 'made-2']"
    assert low.state(id) is State.succeeded


def test_cancelling_an_array_ends_all_of_it(shared):
    low = place(shared, array=2)
    id = low.submit(python(shared, "import time; print('up', flush=True); time.sleep(600)"))
    until(lambda: printed(low, id).count("up") == 2)
    assert low.state(id) is State.running
    low.cancel(id)
    until(lambda: low.state(id).ended)
    assert low.state(id) is State.cancelled
    array = json.loads((shared / id / "job.json").read_text())["slurm"][0]
    until(lambda: not ask("squeue", "--noheader", f"--jobs={array}", check=False).strip())
