"""`reprise doctor`: checks of this machine, and how to repair what is not in order. The checks do not depend on each other."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ray_jobs.errors import printable
from ray_jobs.terminal import console

GIB = 2**30
Verdict = Literal["ok", "warn", "fail"]
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
PACKAGES = ("torch", "lightning", "ray", "gymnasium", "datasets", "jsonargparse", "rich")
"""Packages that some verb needs."""


@dataclass(frozen=True)
class Row:
    """One finding; `mend` is the advice where it is not ok."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def doctor(*, deep: bool = False, json: bool = False) -> int:
    """Check torch, Ray, GPUs, data and disk.

    Each finding that is not in order says how to repair it.

    Args:
        deep: also compute on every GPU and start a local Ray, which takes about 10 s.
        json: print a list of objects with name, verdict, found and mend.

    Returns:
        1 where anything fails, else 0; a warning does not count.
    """
    rows = list(examine(deep))
    (_print_json if json else _print_table)(rows)
    return int(any(row.verdict == "fail" for row in rows))


def examine(deep: bool = False) -> Iterator[Row]:
    """Every finding, as it is made; a check that raises is a finding too."""
    for check in CHECKS + (DEEP if deep else ()):
        try:
            yield from check()
        except Exception as error:
            name = check.__name__.strip("_").replace("_", " ")
            yield Row(name, "fail", f"could not be checked: {type(error).__name__}: {error}", "Please report this.")


def python() -> Iterator[Row]:
    """The interpreter."""
    version = platform.python_version()
    good = (3, 11) <= sys.version_info < (3, 14)
    yield Row("python", "ok" if good else "fail", f"{version}, {sys.executable}", "" if good else "Use 3.11 to 3.13.")


def packages() -> Iterator[Row]:
    """Each package really imports: a broken install is often found only then."""
    for name in PACKAGES:
        try:
            module = importlib.import_module(name)
        except Exception as error:
            again = f"Install it again: pip install --force-reinstall --no-deps {name}"
            yield Row(name, "fail", f"does not import: {type(error).__name__}: {_first_line(error)}", again)
        else:
            yield Row(name, "ok", getattr(module, "__version__", "") or importlib.metadata.version(name))


def threads() -> Iterator[Row]:
    """Threads of torch against the cores there are."""
    import torch

    from cluster.local import cores

    used, there = torch.get_num_threads(), cores()
    found = f"torch uses {used} of {there} cores"
    crowded = used > there
    yield Row("threads", "warn" if crowded else "ok", found, f"Set OMP_NUM_THREADS={there}." if crowded else "")


def gpus() -> Iterator[Row]:
    """GPUs that torch can use, and those that the driver shows and torch cannot."""
    import torch

    for i in range(torch.cuda.device_count()):
        shown = torch.cuda.get_device_properties(i)
        yield Row(f"gpu {i}", "ok", f"{shown.name}, {shown.total_memory / GIB:.0f} GiB, CUDA {torch.version.cuda}")
    if torch.cuda.device_count():
        return
    if shutil.which("nvidia-smi"):
        mend = "Install a torch for CUDA that the driver supports: see pytorch.org."
        yield Row("gpu", "warn", "the driver is there, but torch sees no GPU", mend)
    else:
        apple = torch.backends.mps.is_available()
        yield Row("gpu", "ok", "Apple's MPS" if apple else "none: everything runs on the CPU")


def box2d() -> Iterator[Row]:
    """LunarLander's physics."""
    try:
        importlib.import_module("Box2D")
    except ImportError:
        yield Row("box2d", "warn", "not installed: no LunarLander", "pip install 'gymnasium[box2d]'")
    else:
        yield Row("box2d", "ok", "installed")


def data() -> Iterator[Row]:
    """Where downloaded data lies, and whether anything may be downloaded."""
    base = Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_DATASETS_CACHE", base / "datasets")).expanduser()
    offline = {"1", "true", "yes", "on"} & {
        os.environ.get(n, "").lower() for n in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    }
    found = f"cache {cache}, {'offline' if offline else 'downloads allowed'}"
    if _writable(cache):
        yield Row("data", "ok", found)
    else:
        yield Row("data", "fail", f"{found}, not writable", "Set HF_HOME to a folder that you may write to.")


def disk() -> Iterator[Row]:
    """Room and permission where runs are written."""
    runs = Path("runs").absolute()
    if not _writable(runs):
        yield Row("disk", "fail", f"{runs} cannot be written", "Change into a folder of yours, or give --out.")
        return
    free = shutil.disk_usage(_existing(runs)).free / GIB
    verdict: Verdict = "ok" if free >= 5 else "warn" if free >= 1 else "fail"
    mend = "" if verdict == "ok" else "Free some: checkpoints need it."
    yield Row("disk", verdict, f"{free:.1f} GiB free for {runs}", mend)


def memory() -> Iterator[Row]:
    """Memory that is free, and shared memory for Ray's object store."""
    free = _available_memory()
    if free is not None:
        low = free < 2 * GIB
        yield Row("memory", "warn" if low else "ok", f"{free / GIB:.1f} GiB free", "Close something." if low else "")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).free / GIB
        mend = "" if size >= 0.5 else "In a container, start it with --shm-size=2g, or Ray spills to disk."
        yield Row("shared memory", "warn" if mend else "ok", f"{size:.1f} GiB free in /dev/shm", mend)


def git() -> Iterator[Row]:
    """Whether a run can note which code it ran."""
    if shutil.which("git") is None:
        yield Row("git", "warn", "not installed: runs note no commit", "Install git.")
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10)
    yield Row("git", "ok", f"commit {commit.stdout.strip()}" if commit.returncode == 0 else "this is no repository")


def cluster() -> Iterator[Row]:
    """The Ray cluster that RAY_ADDRESS names, and whether it needs a token."""
    from cluster.ray_clusters.jobs_api import Ray

    named = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    if not named:
        yield Row("cluster", "ok", "none named: RAY_ADDRESS is not set")
        return
    try:
        nodes = Ray(named).nodes()
    except ValueError as error:
        yield Row("cluster", "fail", str(error), "Start the cluster, or unset RAY_ADDRESS.")
        return
    cpus, gpus = (sum(node.get(key, 0) for node in nodes) for key in ("CPU", "GPU"))
    found = f"{len(nodes)} nodes, {cpus:g} CPU cores, {gpus:g} GPUs"
    open_ = os.environ.get("RAY_AUTH_MODE", "").lower() != "token"
    mend = "Export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH on every node, and keep the network private."
    yield Row("cluster", "warn" if open_ else "ok", found + ", no token" * open_, mend if open_ else "")


def job_list() -> Iterator[Row]:
    """The list of submitted jobs."""
    from cluster import store

    folder = store.jobs_folder()
    known, damaged = store.entries()
    if not _writable(folder):
        yield Row("job list", "fail", f"{folder} cannot be written", "Set REPRISE_STATE to a folder of yours.")
    elif damaged:
        yield Row("job list", "warn", f"damaged: {', '.join(damaged)}", f"Delete these files in {folder}.")
    else:
        yield Row("job list", "ok", f"{len(known)} jobs in {folder}")


def profiles() -> Iterator[Row]:
    """The names that `reprise submit --on` knows here, in addition to the backends."""
    from cluster import profiles as known

    try:
        found = known.load()
    except ValueError as error:
        yield Row("profiles", "fail", str(error), "Repair that file, or move it away.")
    else:
        yield Row("profiles", "ok", ", ".join(found) or "none")
    for path in known.unapproved(Path.cwd()):
        yield Row(
            "profiles", "warn", f"{printable(path)} is not approved", "Read it, then `reprise trust` approves it."
        )


def gpu_work() -> Iterator[Row]:
    """One product of matrices on each GPU, against the CPU."""
    import torch

    a = torch.arange(64.0).reshape(8, 8)
    for i in range(torch.cuda.device_count()):
        right = torch.equal((a.to(f"cuda:{i}") @ a.T.to(f"cuda:{i}")).cpu(), a @ a.T)
        mend = "" if right else "Leave it out with CUDA_VISIBLE_DEVICES, and have it looked at."
        yield Row(f"gpu {i} computes", "ok" if right else "fail", "as the CPU" if right else "wrong numbers", mend)


def ray_starts() -> Iterator[Row]:
    """Whether a local Ray starts, runs a task and ends; in another process, with a time limit."""
    program = (
        "import ray; ray.init(address='local', num_cpus=1, include_dashboard=False, log_to_driver=False, "
        "logging_level='ERROR', object_store_memory=100_000_000, _temp_dir={!r}); "
        "assert ray.get(ray.remote(lambda: 42).remote()) == 42; ray.shutdown()"
    )
    with tempfile.TemporaryDirectory(prefix="rp", ignore_cleanup_errors=True) as scratch:
        env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        env.setdefault("RAY_AUTH_MODE", "disabled")
        try:
            line = [sys.executable, "-P", "-c", program.format(scratch)]
            done = subprocess.run(
                line, capture_output=True, text=True, timeout=90, env=env, cwd=scratch
            )  # Ray imports from there
            problem = "" if done.returncode == 0 else _last_line(done.stderr)
        except subprocess.TimeoutExpired:
            problem = "nothing happened for 90 s"
    if problem:
        yield Row("ray starts", "fail", problem, "Check memory, /dev/shm and a firewall between local ports.")
    else:
        yield Row("ray starts", "ok", "started, ran a task and ended")


CHECKS: tuple[Callable[[], Iterator[Row]], ...] = (
    python, packages, threads, gpus, box2d, data, disk, memory, git, cluster, job_list, profiles,
)  # fmt: skip
DEEP: tuple[Callable[[], Iterator[Row]], ...] = (gpu_work, ray_starts)


def _existing(path: Path) -> Path:
    """The nearest folder above (or the path itself) that is there."""
    return next(p for p in (path, *path.parents) if p.exists())


def _writable(path: Path) -> bool:
    """Whether a file can really be made there, or the folder be made; leaves nothing behind."""
    try:
        with tempfile.TemporaryFile(dir=_existing(path)):
            return True
    except OSError:
        return False


def _available_memory() -> float | None:
    """Bytes that can be had without swapping; None where this system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _last_line(text: str) -> str:
    return ([line for line in text.splitlines() if line.strip()] or ["it printed nothing"])[-1]


def _print_json(rows: list[Row]) -> None:
    print(json.dumps([asdict(row) for row in rows], indent=2))


def _print_table(rows: list[Row]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for row in rows:
        mend = f"\n→ {escape(row.mend)}" if row.mend else ""
        table.add_row(f"[{COLOURS[row.verdict]}]{row.verdict}[/]", row.name, escape(row.found) + mend)
    console().print(table)
