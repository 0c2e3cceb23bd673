"""Quality by the number of network evaluations: every sampler on trained diffusion models, and the models that were distilled.

The data are laboratories whose truth is known. In the plane (`mixture2d`) quality is the Wasserstein distance of 1,024 samples to
examples, on a known Gaussian (`gauss_image`) the Frechet distance of 4,096 samples to the truth, each over what as many true
examples have: 1 is perfect. An evaluation is one call of the network on one example; they are counted, not computed by a formula.

Finished runs in --runs are used; those that are missing are trained, for --steps steps where that is given.

    python -m benchmarks.samplers --runs runs/samplers --steps 3000
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import ROOT, Row, machine, number, save, warn_if_busy
from datamodules.labs.density2d import Density2D
from lightning_modules.diffusion.denoising import Denoising
from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
from lightning_modules.metrics.samples import wasserstein
from lightning_modules.staged import Staged
from ray_jobs.recipe.settings import check
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.train import fit
from ray_jobs.train.launch import launch

RESULTS = ROOT / "benchmarks" / "results" / "samplers.json"
STEPS = (1, 2, 4, 8, 16, 32, 64)
ANNEALED = ("langevin", "predictor-corrector")
"""Samplers that take several evaluations at each level."""
Quality = Callable[[Tensor], float]
"""Samples [N, *D] -> their distance to the truth over that of true examples."""


@dataclass(frozen=True)
class Trial:
    """A recipe to sample from, and its settings that differ."""

    recipe: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return self.recipe.replace("@", "-")


TRIALS = [
    Trial(name)
    for name in (
        "ddpm_mixture2d", "edm_mixture2d", "flow_mixture2d", "reflow_mixture2d", "pd_mixture2d", "consistency_mixture2d",
        "consistency_mixture2d@training", "consistency_mixture2d@improved", "ddpm_gauss_image", "edm_gauss_image",
    )
]  # fmt: skip


def run_of(trial: Trial, runs: Path, steps: int | None) -> Run:
    """The finished run of a trial, trained where there is none."""
    at = runs / trial.name
    if (at / "result.json").exists():
        return Run.open(str(at))
    own = {"steps": steps, "save_every": steps, "log_every": steps} if steps else {}
    given = check(trial.recipe, {**trial.settings, **own})
    return launch(Spec(trial.recipe, given, 0, Where(address="local", accelerator="cpu"), str(at)))


def quality_of(data: Any, n: int) -> tuple[int, Quality]:
    """How many samples are compared with the truth, at most n, and how."""
    rng = torch.Generator().manual_seed(2024)
    if isinstance(data, Density2D):
        n = min(n, 1024)
        truth, other = (data.density.draw(n, rng).float() for _ in range(2))
        floor = wasserstein(other, truth)
        return n, lambda x: wasserstein(x, truth) / floor
    exact = (data.mean, data.cov)
    floor = frechet_floor(lambda k, g: data.draw(k, g)["x"], exact, n)
    return n, lambda x: frechet_of(x, exact) / floor


class Counted:
    """Calls of a network on one example, as long as the block runs.

    Args:
        net: the network.
        n: examples that are drawn.
    """

    def __init__(self, net: nn.Module, n: int) -> None:
        self.net, self.n, self.rows = net, n, 0

    def __enter__(self) -> Counted:
        self.hook = self.net.register_forward_hook(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def _count(self, net: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        self.rows += len(answer)

    @property
    def calls(self) -> int:
        """For each example."""
        return self.rows // self.n


def models_of(model: Any) -> Iterator[tuple[str, Denoising, tuple[int, ...]]]:
    """The models of a run with the numbers of steps that they are sampled in: each student in its own."""
    if not isinstance(model, Staged):
        yield "", model, STEPS
        return
    students = [s for s in model.stages if s.name.startswith("student") and s.name != "student"]
    for stage in students:
        yield f" {stage.name}", stage.model, (stage.model.draw.steps,)  # type: ignore[misc]  # a Denoising
    if not students:
        yield "", model.last, STEPS  # type: ignore[misc]


def rows_of(title: str, model: Denoising, steps: tuple[int, ...], n: int, quality: Quality) -> Iterator[Row]:
    """A row for each sampler and number of steps that the model takes."""
    names = model.samplers if len(steps) > 1 else ["ddim"]
    for sampler in names:
        for count in steps if sampler not in ANNEALED else steps[:3]:
            rng = torch.Generator().manual_seed(0)
            try:
                with Counted(model.net, n) as counted:
                    drawn = model.sample(n, rng=rng, steps=count, sampler=sampler, batch=n)
            except ValueError:  # a sampler that cannot start, or a grid without such a number of steps
                continue
            found = quality(drawn.cpu().float()) if drawn.isfinite().all() else None
            yield {"model": title, "sampler": sampler, "steps": count, "evaluations": counted.calls, "ratio": found}


def table(rows: list[Row]) -> str:
    """The rows in Markdown: a line for each model and sampler, the ratio and in brackets the evaluations for each number of steps."""
    counts = sorted({int(row["steps"]) for row in rows})  # type: ignore[arg-type]
    lines = ["| model | sampler | " + " | ".join(f"{n} steps" for n in counts) + " |", "|---" * (len(counts) + 2) + "|"]
    for model, sampler in dict.fromkeys((row["model"], row["sampler"]) for row in rows):
        mine = {row["steps"]: row for row in rows if (row["model"], row["sampler"]) == (model, sampler)}
        lines.append(f"| {model} | {sampler} | " + " | ".join(_cell(mine.get(n)) for n in counts) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    ratio = "not finite" if row["ratio"] is None else number(float(row["ratio"]))
    return f"{ratio} ({row['evaluations']})"


def main(argv: list[str] | None = None) -> None:
    """Train what is missing, measure, record, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/samplers"), help="folder of the runs")
    parser.add_argument("--steps", type=int, help="of training; default: the recipe's own")
    parser.add_argument("--only", default="", help="recipes whose name holds this")
    parser.add_argument("--n", type=int, default=4096, help="samples, at most; in the plane 1,024")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file; the table is next to it, in Markdown")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    where, parts = machine(), {}
    quiet = warn_if_busy(where)
    for trial in (t for t in TRIALS if options.only in t.recipe):
        found = fit.trained(run_of(trial, options.runs, options.steps))
        n, quality = quality_of(found.made.data, options.n)
        rows: list[Row] = []
        for more, model, steps in models_of(found.model):
            rows += rows_of(trial.recipe + more, model, steps, n, quality)
        parts[trial.recipe] = {"ours": rows}
        save(options.out, where, quiet, parts)
        options.out.with_suffix(".md").write_text(table([row for part in parts.values() for row in part["ours"]]))
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
