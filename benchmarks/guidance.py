"""The curve of guidance: how many samples of a run show their caption, and how much of the data they cover, by strength.

Of `glide_shapes`, a reader of pixels judges; classifier-free guidance, and of a run with a CLIP the gradient of its inner product too, are
compared at the same noise, steps and captions. Of `glide_emoji`, the run's CLIP judges, which guides nothing, by captions seen in training.
Three files go into the run folder: guidance.json, guidance.png (recall over accuracy, with its chance level), and guidance-samples.png (one
row of samples of the same captions for each strength).

    python -m benchmarks.guidance RUN --strengths 0,1,2,4 --n 256
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import machine
from datamodules.base import Data
from datamodules.labs.shapes import Shapes
from lightning_modules.conditions import Cond
from lightning_modules.diffusion.clip import CLIP
from lightning_modules.diffusion.denoising import Denoising
from lightning_modules.staged import Staged
from ray_jobs.recipe.captions import at_strengths, by_judge, chance
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipes.multistage.emoji import pairs
from ray_jobs.recipes.multistage.glide import without_clip
from ray_jobs.results.comparison import SHOWN, comparison
from ray_jobs.results.plots import BLUE, GREEN, GREY, figure, save
from ray_jobs.run.files import write
from ray_jobs.run.folder import Run
from ray_jobs.train import fit

Points = Mapping[float, Mapping[str, float]]
"""Strength -> what the judge finds and 'recall', by name."""
NAMES = {"free": "classifier-free", "clip": "CLIP"}
COLOURS = {"free": BLUE, "clip": GREEN}


def guides(model: object) -> dict[str, Denoising]:
    """The diffusion of a run by each kind of guidance that it has."""
    base = model.last if isinstance(model, Staged) else model
    assert isinstance(base, Denoising)
    return {"free": without_clip(base)} | ({"clip": base} if base.draw.classifier else {})


@dataclass(frozen=True)
class Judge:
    """What the samples of a run are judged by."""

    measure: Callable[..., dict[str, float]]
    """(model, strengths=tuple of W) -> NAME_W and recall_W of samples at each strength W."""
    names: tuple[str, ...]
    """Names; the first is drawn."""
    label: str
    """Of the first, in words."""
    chance: dict[str, float]
    """What pictures reach that do not follow captions, and what true ones reach: NAME_chance, NAME_real."""
    captions: Tensor
    """Of the samples that are shown [SHOWN, L]."""


def judge_of(model: object, data: Data, n: int) -> Judge:
    """The judge of a run's n samples: a reader of pixels of shapes, or the CLIP that was trained to judge.

    Raises:
        SystemExit: the run has neither.
    """
    if isinstance(data, Shapes):
        measure, names = partial(at_strengths, data=data, n=n), ("accuracy", "attributes")
        return Judge(measure, names, "all six attributes as in the caption", chance(), data.test(SHOWN)["caption"])
    if not isinstance(model, Staged) or not isinstance(judge := getattr(model, "judge", None), CLIP):
        raise SystemExit("The curve of guidance is for runs of glide_shapes and glide_emoji.")
    seen = pairs(data, n)[""]  # type: ignore[arg-type]  # a run with a judge has images with captions
    reached = by_judge(judge, model.last, seen, ())  # type: ignore[arg-type]

    label = f"own caption found among {len(seen['x'])} by the judge"
    measure = partial(by_judge, judge, pairs=seen)
    return Judge(measure, ("retrieval", "clip_score"), label, reached, seen["caption"][:SHOWN])


def points(model: Denoising, judge: Judge, strengths: Sequence[float]) -> dict[float, dict[str, float]]:
    """What the judge finds, and recall, at each strength."""
    found = judge.measure(model, strengths=tuple(strengths))
    return {w: {name: found[f"{name}_{w:g}"] for name in (*judge.names, "recall")} for w in strengths}


def rows(models: Mapping[str, Denoising], captions: Tensor, strengths: Sequence[float]) -> dict[str, np.ndarray]:
    """Samples of the same captions [SHOWN, L] and noise by kind and strength of guidance."""
    cond, found = Cond(tokens=captions), {}
    for kind, model in models.items():
        for w in strengths:
            if w or kind == "free":
                x = model.sample(len(captions), cond, guidance=w, rng=measuring())
                found[f"{NAMES[kind]} {w:g}" if w else "none"] = x.float().cpu().numpy()
    return found


def curve(curves: Mapping[str, Points], judge: Judge, path: Path) -> Path:
    """Recall over the share of samples that the judge finds right: a line for each kind of guidance, strengths at its points."""
    name = judge.names[0]
    with figure(5.4, 4.0) as (fig, axes):
        for kind, found in curves.items():
            x, y = ([of[which] for of in found.values()] for which in (name, "recall"))
            axes.plot(x, y, "o-", color=COLOURS[kind], label=NAMES[kind], markersize=4)
            for w, a, b in zip(found, x, y, strict=True):
                axes.annotate(
                    f"{w:g}", (a, b), textcoords="offset points", xytext=(5, 4), fontsize=8, color=COLOURS[kind]
                )
        axes.axvline(judge.chance[f"{name}_chance"], color=GREY, linestyle=":", label="chance")
        axes.set(xlabel=judge.label, ylabel="recall", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(frameon=False)
        return save(fig, path)


def main() -> None:
    """Measure one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a finished run of glide_shapes or glide_emoji")
    parser.add_argument("--strengths", default="0,1,2,4")
    parser.add_argument("--n", type=int, default=256)
    options = parser.parse_args()
    run, strengths = Run.open(options.run), [float(w) for w in options.strengths.split(",")]
    found = fit.trained(run)
    found.made.data.setup("fit")
    models = guides(found.model)
    with torch.no_grad():
        judge = judge_of(found.model, found.made.data, options.n)
        curves = {kind: points(model, judge, strengths) for kind, model in models.items()}
        shown = rows(models, judge.captions, strengths)
    record = {"machine": machine(), "step": found.step, "n": options.n, **judge.chance, "curves": curves}
    write(run.path / "guidance.json", (json.dumps(record, indent=1) + "\n").encode())
    comparison(shown, run.path / "guidance-samples.png")
    print(curve(curves, judge, run.path / "guidance.png"))
    print(json.dumps(curves, indent=1))


if __name__ == "__main__":
    main()
