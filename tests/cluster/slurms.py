"""A real Slurm on loopback: munged, slurmctld and three slurmd from a folder and ports of their own, ended by their pids.

The nodes n1 to n3 are this machine three times, with two CPUs and two GPUs each that exist in name only. `high` preempts
`low` at once (SIGTERM, and SIGKILL after KillWait) and `gentle` with a minute's grace (USR1 at its beginning).
"""

from __future__ import annotations

import atexit
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
NODES = ("n1", "n2", "n3")
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
NodeName=n[1-3] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[3]}] CPUs=2 RealMemory=7000 Gres=gpu:2
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
    for name in ("ctld", *NODES):
        (state / name).mkdir()
    conf = state / "slurm.conf"
    conf.write_text(CONF.format(state=state, user=getpass.getuser(), ports=_four_ports()))
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
    for node in NODES:
        _daemon("slurmd", "-D", "-N", node, "-f", str(conf), state=state)
    _until(lambda: _idle(env) == len(NODES), "the nodes never became idle", state)
    return str(conf)


def _four_ports() -> list[int]:
    """The controller's, and three in a row for the nodes."""
    while True:
        controller, first = free_ports(2)
        row = [first, first + 1, first + 2]
        if first < 65000 and controller not in row:
            return [controller, *row]


def _daemon(name: str, *arguments: str, state: Path) -> None:
    log = (state / "daemons.log").open("ab")
    line = [str(_program(name)), *arguments]
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    atexit.register(_stop, process)


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
    deadline = time.monotonic() + 30
    while not question():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in state.glob("*.log"))
            raise RuntimeError(f"{complaint}: {logs}")
        time.sleep(0.05)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
