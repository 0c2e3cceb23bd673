"""A real Slurm on loopback: munged, slurmctld and three slurmd from a folder and ports of their own, ended by their pids.

The nodes n1 to n3 are this machine three times, with two CPUs and two GPUs each that exist in name only. `high` preempts
`low` at once (SIGTERM, and SIGKILL after KillWait) and `gentle` with a minute's grace (USR1 at its beginning).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import getpass
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.cluster.heads import _free_ports as free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "sinfo", "scancel")
NODES: dict[str, subprocess.Popen] = {}
"""The slurmd of each node, once they run."""
CONF = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={state}/munge.sock
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={state}/ctld
SlurmdSpoolDir={state}/%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd-%n.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
ReturnToService=2
InactiveLimit=0
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
KillWait=5
OverTimeLimit=0
MinJobAge=600
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
DefMemPerCPU=500
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=n[1-3] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{ports[1]},{ports[2]},{ports[3]}] CPUs=2 RealMemory=7000 Gres=gpu:2
PartitionName=low Nodes=n[1-3] Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=gentle Nodes=n[1-3] MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=n[1-3] MaxTime=120 PriorityTier=10 PreemptMode=OFF
"""


def open_slurm() -> None:
    """Points SLURM_CONF at a Slurm that runs until the session ends; skips where its programs are not installed."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        pytest.skip(f"Slurm is not installed here: {missing[0]} is missing (Debian: apt-get install slurm-wlm munge)")
    os.environ["SLURM_CONF"] = _start()


@functools.cache
def _start() -> str:
    state = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # short: sockets lie in it
    state.chmod(0o755)
    atexit.register(shutil.rmtree, state, True)
    for name in ("ctld", "n1", "n2", "n3"):
        (state / name).mkdir()
    conf = state / "slurm.conf"
    conf.write_text(CONF.format(state=state, user=getpass.getuser(), ports=free_ports(4)))
    (state / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    key = state / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    files = [f"--{name}-file={state}/munge.{name}" for name in ("pid", "log", "seed")]
    _daemon(
        "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={state}/munge.sock", *files, state=state
    )
    _until(lambda: (state / "munge.sock").exists(), "munged does not come up", state)
    env = {"SLURM_CONF": str(conf)}
    _daemon("slurmctld", "-D", "-c", "-f", str(conf), state=state)
    for node in ("n1", "n2", "n3"):
        NODES[node] = _daemon("slurmd", "-D", "-N", node, "-f", str(conf), state=state)
    _until(lambda: _idle(env) == len(NODES), "the nodes never became idle", state)
    return str(conf)


def _daemon(name: str, *arguments: str, state: Path) -> subprocess.Popen:
    line = [str(_program(name)), *arguments]
    with (state / "daemons.log").open("ab") as log:
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=_end_with_parent
        )
    atexit.register(_stop, process)
    return process


def _end_with_parent() -> None:
    """Where the tests are killed, nothing of theirs stays: Linux sends SIGTERM then."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def crash(node: str, job: str) -> None:
    """Ends a node as a power cut does: its slurmd, and the job's processes on it, by SIGKILL."""
    conf = os.environ["SLURM_CONF"]
    NODES[node].kill()
    NODES[node].wait()
    for process in _of_job(conf, job):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    subprocess.run(["scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test"], check=True)


def repair(node: str) -> None:
    """Brings a crashed node back."""
    conf = os.environ["SLURM_CONF"]
    NODES[node] = _daemon("slurmd", "-D", "-N", node, "-f", conf, state=Path(conf).parent)
    _until(lambda: _idle({}) == len(NODES), f"{node} does not come back", Path(conf).parent)


def _of_job(conf: str, job: str) -> list[int]:
    """The processes of a job and, first, the slurmstepd that would report their end."""
    wanted = {f"SLURM_CONF={conf}".encode(), f"SLURM_JOB_ID={job}".encode()}
    found, parents = [], set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted <= set((path / "environ").read_bytes().split(b"\0")):
                found.append(int(path.name))
                parents.add(int((path / "stat").read_text().rpartition(")")[2].split()[1]))
    steps = [p for p in parents if p > 1 and Path(f"/proc/{p}/cmdline").read_bytes().startswith(b"slurmstepd")]
    return [*steps, *found]


def _stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def _idle(env: dict[str, str]) -> int:
    line = ["sinfo", "--noheader", "--Node", "--partition=low", "--states=idle", "--format=%N"]
    return len(subprocess.run(line, env=os.environ | env, capture_output=True, text=True).stdout.split())


def _until(question, complaint: str, state: Path) -> None:
    deadline = time.monotonic() + 90
    while not question():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in state.glob("*.log"))
            raise RuntimeError(f"{complaint}: {logs}")
        time.sleep(0.05)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
