"""Side-by-side measurement: one process for each measurement, contenders alternating, peers in their own environments.

A peer is a folder of `benchmarks/peers` that holds its scripts and, unless it runs in our own environment, a
`requirements.txt`. A script's last line of output is one JSON object; numbers in it are measurements, null is 'not
reached'. The processes see one thread, the time of their launch (BENCH_LAUNCHED, unix seconds) and nothing of each
other. Raw rows are saved after every measurement, so an interrupted benchmark keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
TORCH = "torch>=2.8,<2.14"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
VENVS = Path("~/.cache/reprise-bench").expanduser()
QUIET_LOAD = 0.5
"""Load average (1 minute) above which a machine is too busy for figures that anyone should quote."""

Row = dict[str, float | str | None]
console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)


@dataclass(frozen=True)
class Contender:
    """One line of a table: a peer's script with its arguments."""

    name: str
    peer: str
    script: str = "ppo.py"
    args: tuple[str, ...] = ()

    def command(self, python: str) -> list[str]:
        """The command that runs the script."""
        return [python, str(PEERS / self.peer / self.script), *self.args]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of `n` measurements."""

    median: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        quartiles = f" ({number(self.low)}..{number(self.high)})" if self.n > 1 else ""
        return number(self.median) + quartiles


# Statistics


def number(value: float) -> str:
    """Four digits, and no exponent for large ones."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def spread(values: Sequence[float]) -> Spread:
    """Median and the quartiles (linear interpolation between order statistics) of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values))


def column(rows: Sequence[Row], key: str) -> list[float]:
    """The measurements of `key` that were reached, in order."""
    return [float(row[key]) for row in rows if isinstance(row.get(key), int | float)]  # type: ignore[arg-type]


def paired_ratio(ours: Sequence[Row], theirs: Sequence[Row], key: str) -> Spread | None:
    """Spread of ours / theirs over the rounds that both completed: what slows one round slows both halves of a pair."""
    pairs = [(column([a], key), column([b], key)) for a, b in zip(ours, theirs, strict=False)]
    ratios = [a[0] / b[0] for a, b in pairs if a and b]
    return spread(ratios) if ratios else None


# Environments


def venv_commands(peer: Path, venv: Path) -> list[list[str]]:
    """What makes a peer's environment: torch alone first, so that no dependency chooses its build, and held after."""
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    requirements = ["-r", str(peer / "requirements.txt")]
    return [[sys.executable, "-m", "venv", str(venv)], [*pip, TORCH], [*pip, TORCH, *requirements]]


def interpreter(peer: str, venvs: Path) -> str:
    """The Python that runs a peer's scripts: ours where it has no requirements, else its own, made when needed."""
    wanted = PEERS / peer / "requirements.txt"
    if not wanted.exists():
        return sys.executable
    venv, stamp = venvs / peer, venvs / peer / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        console.print(f"making the environment of {peer} in {venv} (a few minutes, once)")
        for command in venv_commands(PEERS / peer, venv):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shutil.copyfile(wanted, stamp)
    return str(venv / "bin" / "python")


def environment(ours: bool) -> dict[str, str]:
    """Environment variables of a measurement; only our own code sees the repository.

    Bytecode is kept, as on any user's machine: pip has compiled the peers' already.
    """
    path = os.pathsep.join([str(ROOT), str(PEERS)] if ours else [str(PEERS)])
    return (
        os.environ
        | ONE_THREAD
        | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "", "BENCH_LAUNCHED": repr(time.time())}
    )


# Measuring


def stop(process: subprocess.Popen, patience: float = 10.0) -> None:
    """End a process and its children: politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def run(command: Sequence[str], env: Mapping[str, str], limit: float) -> tuple[Row, str]:
    """Run in an empty folder: {"wall_s": ...} or {"error": what went wrong}, and the standard output."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        with out.open("w") as o, err.open("w") as e:  # files, not pipes: a child left behind cannot hold us up
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=o, stderr=e, cwd=folder, env=dict(env), start_new_session=True)
            watchdog = threading.Timer(limit, stop, [process])  # wait(timeout) would look only every 50 ms
            watchdog.start()
            try:
                code = process.wait()
                wall = time.perf_counter() - start
            finally:
                watchdog.cancel()
                stop(process)
        if wall >= limit:
            return {"error": f"stopped after the limit of {limit:.0f} s"}, ""
        if code:
            return {"error": f"exit code {code}: " + " | ".join(err.read_text().strip().splitlines()[-3:])}, ""
        return {"wall_s": wall}, out.read_text(errors="replace")


def timed(command: Sequence[str], *, ours: bool, limit: float) -> Row:
    """How long a command takes, as `wall_s`."""
    return run(command, environment(ours), limit)[0]


def measure(command: Sequence[str], *, ours: bool, limit: float) -> Row:
    """The JSON row that a script prints last, with the whole process's `wall_s`; or {"error": what went wrong}."""
    row, out = run(command, environment(ours), limit)
    if "error" in row:
        return row
    try:
        return {**json.loads(out.strip().splitlines()[-1]), **row}
    except (IndexError, ValueError):
        return {"error": "it printed no JSON row as its last line"}


def alternate(names: Sequence[str], rounds: int) -> Iterator[tuple[str, int]]:
    """(contender, round) in order; each round starts one contender further, so that none always follows the same."""
    for i in range(rounds):
        shift = i % len(names)
        for name in [*names[shift:], *names[:shift]]:
            yield name, i


def brief(row: Row) -> str:
    """A measurement on one line."""
    return "  ".join(f"{k} {number(v)}" if isinstance(v, int | float) else f"{k} {v}" for k, v in row.items())


# Reporting


def machine() -> dict[str, object]:
    """Where the figures come from, and how busy it was before they were taken."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "measured": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }


def warn_if_busy(where: Mapping[str, object]) -> bool:
    """Whether the machine was quiet enough; says so if it was not."""
    load = float(where["load_before"])  # type: ignore[arg-type]
    if load > QUIET_LOAD:
        console.print(f"[red]load average {load} > {QUIET_LOAD}: these figures are not to be quoted[/red]")
    return load <= QUIET_LOAD


def save(path: Path, where: Mapping[str, object], quiet: bool, parts: Mapping[str, Mapping[str, list[Row]]]) -> None:
    """Write the raw rows aside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps({"machine": where, "quiet": quiet, "parts": parts}, indent=1) + "\n")
    aside.replace(path)


class Report:
    """Collects the parts of one benchmark and keeps its results file up to date."""

    def __init__(self, name: str, out: Path | None = None) -> None:
        self.path = out or ROOT / "benchmarks" / "results" / f"{name}.json"
        self.where = machine()
        self.quiet = warn_if_busy(self.where)
        self.parts: dict[str, dict[str, list[Row]]] = {}

    def part(
        self,
        title: str,
        names: Sequence[str],
        rounds: int,
        once: Callable[[str, int], Row],
        earlier: Mapping[str, list[Row]] | None = None,
    ) -> None:
        """Measure one part, alternating, together with rows of an earlier record; every row is written before the next is measured."""
        console.print(f"[bold]{title}[/bold]")
        rows = self.parts[title] = {**(earlier or {}), **{name: [] for name in names}}
        for name, i in alternate(names, rounds):
            row = once(name, i)
            rows[name].append(row)
            save(self.path, self.where, self.quiet, self.parts)
            console.print(
                f"  round {i + 1}/{rounds}  [bold]{name}[/bold]  {escape(brief(row))}", highlight=False, soft_wrap=True
            )

    def show(self, title: str, keys: Sequence[str], ratio: str, success: Callable[[Row], bool] | None = None) -> None:
        """Print the spreads of `keys` and, paired by round, the first contender's `ratio` over each one's."""
        rows = self.parts[title]
        first = next(iter(rows))
        succeeded = success or (lambda row: row.get(ratio) is not None)
        table = Table(title=f"{title}: median (quartiles){'' if self.quiet else ', BUSY MACHINE: do not quote'}")
        for heading in ["contender", "succeeded", *keys, f"{first} / it, {ratio}"]:
            table.add_column(heading, justify="left" if heading == "contender" else "right")
        for name, mine in rows.items():
            cells = [str(spread(values)) if (values := column(mine, key)) else "-" for key in keys]
            done = f"{sum(map(succeeded, mine))}/{len(mine)}"
            table.add_row(name, done, *cells, str(paired_ratio(rows[first], mine, ratio) or "-"))
        console.print(table)


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=plain)
    parser.add_argument("--rounds", type=int, default=rounds, help="measurements of each (default %(default)s)")
    parser.add_argument("--venvs", type=Path, default=VENVS, help="the peers' environments (default %(default)s)")
    parser.add_argument("--out", type=Path, help="results file (default benchmarks/results/NAME.json)")
    return parser
