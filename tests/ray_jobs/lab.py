"""A recipe that trains nothing, and a command that leaves the run folder a real one would: for tests of what reads them."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

RECIPE = '''from ray_jobs.recipe import Claim, Headline, Play, Recipe


def plan(*, lr: float = 1e-3) -> Play:
    """Aim."""


{name} = Recipe(
    "Aiming at {metric} & <hitting> it.",
    plan,
    system="AIM",
    data="targets",
    headline=Headline("Doe & Roe 2017", arxiv="1707.00001", metric="score", value=500, where="table 1"),
    claim={claim},
    defaults={{"steps": 100}},
)
'''

TRAIN = """
import json, signal, sys, time
from pathlib import Path
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.folder import Run

recipe, seed, folder, mode, starts = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
with open(starts, "a") as f:
    f.write(f"{seed}\\n")
again = (Path(folder) / "run.json").exists()
run = Run.open(folder).lock() if again else Run.create(Spec(recipe, {}, seed, out=folder), kind="Play")


def leave(*_):
    (run.path / "saved").write_text("yes")
    run.status("stopped", 50, 100)
    sys.exit(143)


signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, lambda *_: (run.path / "interrupted").touch())



def log(step, **metrics):
    with open(run.path / "metrics.jsonl", "a") as f:
        f.write(json.dumps({"step": step, "time": 0.1, **metrics}) + "\\n")


log(1, score=1.0, loss=2.0)
run.status("running", 50, 100)
if mode == "fail":
    sys.exit("reprise: the loss is not finite at step 50")
while mode == "hold" and not (Path(starts).parent / "go").exists():
    time.sleep(0.02)
log(100, score=float(seed), loss=0.5)
run.finish({"score": float(mode) if mode not in ("hold", "fail") else 480.0 + seed, "other": 1.0}, step=100, device="cpu")
"""


def write_recipe(
    folder: Path, name: str, claim: str = 'Claim("score", at_least=475, seeds=3)', metric: str = "score"
) -> str:
    """Write a recipe's module into `folder`, which must be on the path, and give its import path."""
    (folder / "fakelab").mkdir(exist_ok=True)
    (folder / "fakelab" / "__init__.py").touch()
    (folder / "fakelab" / f"{name}.py").write_text(RECIPE.format(name=name, claim=claim, metric=metric))
    return f"fakelab.{name}"


class Lab:
    """Builds commands that stand in for `reprise train`: `modes[seed]` is the score, 'fail' or 'hold' (until `go`)."""

    def __init__(self, folder: Path, modes: dict[int, str] | None = None) -> None:
        self.folder, self.modes = folder, modes or {}
        self.script, self.starts = folder / "train.py", folder / "starts"
        self.script.write_text(TRAIN)

    def build(self, seed) -> list[str]:
        mode = self.modes.get(seed.number, f"{490 + seed.number}")
        return [sys.executable, str(self.script), seed.recipe, str(seed.number), seed.folder, mode, str(self.starts)]

    def started(self) -> list[int]:
        return [int(line) for line in self.starts.read_text().split()] if self.starts.exists() else []

    def go(self) -> None:
        (self.folder / "go").touch()
