"""The curve of guidance: how many samples of a run of `glide_shapes` show their caption, and how much of the data they cover, by strength.

Classifier-free guidance, and of a run with a CLIP the gradient of its inner product too, at the same noise, steps and captions. A reader of
pixels judges. Three files go into the run folder: guidance.json, guidance.png (recall over accuracy), and guidance-samples.png (one row of
samples of the same captions for each strength).

    python -m benchmarks.guidance RUN --strengths 0,1,2,4 --n 256
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import machine
from datamodules.labs.shapes import Shapes
from lightning_modules.conditions import Cond
from lightning_modules.diffusion.denoising import Denoising
from lightning_modules.staged import Staged
from ray_jobs.recipe.captions import at_strengths, chance
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipes.diffusion.glide import without_clip
from ray_jobs.results.comparison import SHOWN, comparison
from ray_jobs.results.plots import BLUE, GREEN, GREY, figure, save
from ray_jobs.run.files import write
from ray_jobs.run.folder import Run
from ray_jobs.train import fit

Points = Mapping[float, Mapping[str, float]]
"""Strength -> 'accuracy', 'attributes' and 'recall'."""
NAMES = {"free": "classifier-free", "clip": "CLIP"}
COLOURS = {"free": BLUE, "clip": GREEN}


def guides(model: object) -> dict[str, Denoising]:
    """The diffusion of a run by each kind of guidance that it has."""
    base = model.last if isinstance(model, Staged) else model
    assert isinstance(base, Denoising)
    return {"free": without_clip(base)} | ({"clip": base} if base.draw.classifier else {})


def points(model: Denoising, data: Shapes, strengths: Sequence[float], n: int) -> dict[float, dict[str, float]]:
    """Accuracy, attributes and recall at each strength."""
    found = at_strengths(model, data, tuple(strengths), n=n)
    return {w: {name: found[f"{name}_{w:g}"] for name in ("accuracy", "attributes", "recall")} for w in strengths}


def rows(models: Mapping[str, Denoising], data: Shapes, strengths: Sequence[float]) -> dict[str, np.ndarray]:
    """Samples of the same captions and noise by kind and strength of guidance."""
    cond, found = Cond(tokens=data.test(SHOWN)["caption"]), {}
    for kind, model in models.items():
        for w in strengths:
            if w or kind == "free":
                x = model.sample(SHOWN, cond, guidance=w, rng=measuring())
                found[f"{NAMES[kind]} {w:g}" if w else "none"] = x.float().cpu().numpy()
    return found


def curve(curves: Mapping[str, Points], path: Path) -> Path:
    """Recall over the share of samples with all attributes of their caption: a line for each kind of guidance, strengths at its points."""
    with figure(5.4, 4.0) as (fig, axes):
        for kind, found in curves.items():
            x, y = ([of[name] for of in found.values()] for name in ("accuracy", "recall"))
            axes.plot(x, y, "o-", color=COLOURS[kind], label=NAMES[kind], markersize=4)
            for w, a, b in zip(found, x, y, strict=True):
                axes.annotate(
                    f"{w:g}", (a, b), textcoords="offset points", xytext=(5, 4), fontsize=8, color=COLOURS[kind]
                )
        axes.axvline(chance()["accuracy_chance"], color=GREY, linestyle=":", label="chance")
        axes.set(xlabel="all six attributes as in the caption", ylabel="recall", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(frameon=False)
        return save(fig, path)


def main() -> None:
    """Measure one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a finished run of glide_shapes")
    parser.add_argument("--strengths", default="0,1,2,4")
    parser.add_argument("--n", type=int, default=256)
    options = parser.parse_args()
    run, strengths = Run.open(options.run), [float(w) for w in options.strengths.split(",")]
    found = fit.trained(run)
    assert isinstance(found.made.data, Shapes)
    models, data = guides(found.model), found.made.data
    with torch.no_grad():
        curves = {kind: points(model, data, strengths, options.n) for kind, model in models.items()}
        shown = rows(models, data, strengths)
    record = {"machine": machine(), "step": found.step, "n": options.n, **chance(), "curves": curves}
    write(run.path / "guidance.json", (json.dumps(record, indent=1) + "\n").encode())
    comparison(shown, run.path / "guidance-samples.png")
    print(curve(curves, run.path / "guidance.png"))
    print(json.dumps(curves, indent=1))


if __name__ == "__main__":
    main()
