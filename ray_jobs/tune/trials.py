"""The trials of a search, read from their run folders: ranked, and shown as a table, files and a plot.

Each trial is an ordinary run folder, <out>/trials/0007, with one more file, trial.json: its settings, its reports and how it ended.
A search continues from these files alone, so its driver may be killed. Nothing here knows Ray.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ray_jobs.run.files import write, write_json

if TYPE_CHECKING:
    from rich.table import Table

Mode = Literal["min", "max"]
RECORD = "trial.json"


@dataclass(frozen=True)
class Trial:
    """One trial. `state`: running (or cut off), finished, stopped (early, by the scheduler) or failed."""

    number: int
    settings: Mapping[str, Any]
    state: str = "running"
    reports: tuple[tuple[float, float], ...] = ()
    """(percent of the training, progress metric), oldest first."""
    score: float | None = None
    """The tuned metric at the end; None unless finished."""
    seconds: float = 0.0
    reason: str = ""
    """Why it failed, in one line."""
    history: tuple[str, ...] = field(default=())
    """Population-based training: whose weights it took over, and when."""

    @property
    def name(self) -> str:
        """The number in four digits, as the folder is called."""
        return f"{self.number:04d}"

    @property
    def percent(self) -> float:
        """How much of the training was reported, in percent."""
        return 100.0 if self.state == "finished" else (self.reports[-1][0] if self.reports else 0.0)

    @property
    def progress(self) -> float | None:
        """The newest progress metric; None before the first report."""
        return self.reports[-1][1] if self.reports else None

    @property
    def done(self) -> bool:
        """Whether there is nothing left to run."""
        return self.state != "running"


def folder(out: Path, number: int) -> Path:
    """The run folder of a trial."""
    return out / "trials" / f"{number:04d}"


def load(at: Path) -> Trial | None:
    """The trial that a run folder records; None without one."""
    try:
        record = json.loads((at / RECORD).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    pairs = tuple((float(p), float(v)) for p, v in record.pop("reports"))
    found = Trial(**record | {"reports": pairs, "history": tuple(record["history"])})
    if found.score is None or math.isfinite(found.score):
        return found
    return replace(found, state="failed", score=None, reason=f"its score is {found.score}")


def save(at: Path, trial: Trial) -> None:
    """Write the trial's record into its run folder."""
    write_json(at / RECORD, asdict(trial))


def load_all(out: Path) -> list[Trial]:
    """Every trial that was started, by number."""
    return [t for at in sorted((out / "trials").glob("[0-9]*")) if (t := load(at)) is not None]


def better(a: float | None, b: float | None, mode: Mode) -> bool:
    """Whether `a` beats `b`; None and what is not finite lose to everything."""
    if a is None or not math.isfinite(a):
        return False
    return b is None or not math.isfinite(b) or (a > b if mode == "max" else a < b)


def ranked(trials: Iterable[Trial], mode: Mode, progress_mode: Mode) -> list[Trial]:
    """Best first: the finished by score, then the stopped and running by how far and how well, the failed last."""
    order = {"finished": 0, "running": 1, "stopped": 1, "failed": 2}

    def key(t: Trial) -> tuple[float, float, float, int]:
        value, direction = (t.score, mode) if t.state == "finished" else (t.progress, progress_mode)
        sign = -1.0 if direction == "max" else 1.0
        rank = math.inf if value is None or not math.isfinite(value) else sign * value
        return order[t.state], 0.0 if t.state == "finished" else -t.percent, rank, t.number

    return sorted(trials, key=key)


def best(trials: Sequence[Trial], mode: Mode, progress_mode: Mode) -> Trial | None:
    """The best trial: of the finished ones if there are any, else of those that at least reported something."""
    scored = [t for t in trials if t.state == "finished" and better(t.score, None, mode)]
    usable = scored or [t for t in trials if t.state in ("running", "stopped") and t.reports]
    return ranked(usable, mode, progress_mode)[0] if usable else None


def brief(value: Any) -> str:
    """A setting or metric in about four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(trials: Sequence[Trial], metric: str, progress: str, title: str = "") -> Table:
    """A rich table, in the order given; failed trials say why."""
    from rich.markup import escape
    from rich.table import Table

    names = list(dict.fromkeys(name for t in trials for name in t.settings))
    columns = ["trial", *names, metric, *([progress] if progress != metric else []), "trained", "time", "state"]
    made = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for name in columns:
        made.add_column(escape(name), justify="left" if name == "state" else "right", overflow="fold")
    for t in trials:
        score = t.score if t.score is not None or progress != metric else t.progress
        values = [score, *([t.progress] if progress != metric else [])]
        shown = [brief(t.settings.get(n, "")) for n in names] + ["" if v is None else brief(float(v)) for v in values]
        state = t.state + (f": {t.reason}" if t.reason else "")
        style = {"failed": "red", "stopped": "dim", "running": "cyan"}.get(t.state)
        cells = [t.name, *shown, f"{t.percent:.0f} %", f"{t.seconds:.0f} s", state]
        made.add_row(*(escape(c) for c in cells), style=style)
    return made


def save_all(out: Path, trials: Sequence[Trial]) -> None:
    """trials.json and trials.csv, in the order given."""
    write_json(out / "trials.json", [asdict(t) for t in trials])
    names = list(dict.fromkeys(name for t in trials for name in t.settings))
    head = ["trial", "state", "score", "progress", "percent", "seconds"]
    aside = out / ".trials.csv"
    with open(aside, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*head, *names, "reason"])
        for t in trials:
            rows.writerow([*(_cell(t, h) for h in head), *(t.settings.get(n, "") for n in names), t.reason])
    aside.replace(out / "trials.csv")


def _cell(trial: Trial, column: str) -> Any:
    value = trial.number if column == "trial" else getattr(trial, column)
    return "" if value is None else value


def save_best(out: Path, trial: Trial, fixed: Mapping[str, Any], about: str) -> Path:
    """best.yaml: the trial's settings and the fixed ones, as `reprise train R --config` reads them."""
    import yaml

    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in {**fixed, **trial.settings}.items()}
    text = f"# {about}\n{yaml.safe_dump(settings, sort_keys=False)}"
    write(out / "best.yaml", text.encode())
    return out / "best.yaml"


def plot(out: Path, trials: Sequence[Trial], metric: str, mode: Mode, logarithmic: Iterable[str] = ()) -> Path | None:
    """tune.png: the metric against each setting that varied, and the best so far; None where nothing was scored, or cannot be drawn."""
    scored = [t for t in sorted(trials, key=lambda t: t.number) if better(t.score, None, mode)]
    names = [n for n in (scored[0].settings if scored else ()) if len({str(t.settings.get(n)) for t in scored}) > 1]
    values = [t.score for t in scored if t.score is not None]
    if not values or not math.isfinite(2 * (max(values) - min(values))):
        return None
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    aside = out / ".tune.png"
    with rc_context({"text.parse_math": False}):  # a $ in a name is a dollar
        figure = Figure(figsize=(3.4 * (len(names) + 1), 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(names) + 1, sharey=True, squeeze=False)[0]
        _draw_progress(axes[0], scored, metric, mode)
        for axis, name in zip(axes[1:], names, strict=True):
            _draw_setting(axis, scored, name, mode, name in set(logarithmic))
        figure.savefig(aside, dpi=120, format="png")
    aside.replace(out / "tune.png")
    return out / "tune.png"


def _dots(axis: Any, x: Sequence[Any], scored: Sequence[Trial], mode: Mode) -> None:
    top = ranked(scored, mode, mode)[0]
    at = next(i for i, t in enumerate(scored) if t.number == top.number)
    axis.scatter(x, [t.score for t in scored], s=28, color="#0072b2", alpha=0.8, linewidths=0, zorder=3)
    axis.scatter([x[at]], [top.score], s=90, facecolors="none", edgecolors="#d55e00", linewidths=1.8, zorder=4)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_progress(axis: Any, scored: Sequence[Trial], metric: str, mode: Mode) -> None:
    _dots(axis, [t.number for t in scored], scored, mode)
    pick = max if mode == "max" else min
    so_far = [pick(t.score for t in scored[: i + 1] if t.score is not None) for i in range(len(scored))]
    axis.step([t.number for t in scored], so_far, where="post", color="#d55e00", label="best so far")
    axis.set(xlabel="trial", ylabel=f"{metric} ({'higher' if mode == 'max' else 'lower'} is better)")
    axis.legend(frameon=False, fontsize="small")
    axis.xaxis.get_major_locator().set_params(integer=True)


def _draw_setting(axis: Any, scored: Sequence[Trial], name: str, mode: Mode, logarithmic: bool) -> None:
    values = [t.settings.get(name) for t in scored]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numbers and logarithmic:
        from matplotlib.ticker import LogLocator, NullFormatter

        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    _dots(axis, values if numbers else [str(v) for v in values], scored, mode)
    axis.set(xlabel=name)
