"""The verbs `reprise sample` and `reprise evaluate`: draw from a trained run, and measure it again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import engine, recipe
from ray_jobs.recipe.settings import known
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import brief, noise_to
from ray_jobs.run.records import shown
from ray_jobs.train.drawing import Drawing, Video, prompts_of
from ray_jobs.train.earlier import current_spec, data_found
from ray_jobs.train.evaluation.best import chosen


def sample(
    run: str,
    *,
    n: int = 64,
    seed: int = 0,
    name: str = "samples",
    label: str = "",
    image: str = "",
    level: float | None = None,
    sampler: str | None = None,
    grid: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    compare: bool = False,
    checkpoint: str = "newest",
    churn: float | None = None,
    churn_min: float | None = None,
    churn_max: float | None = None,
    churn_std: float | None = None,
    ema: float | None = None,
    prompt: str | None = None,
    prompts: str | None = None,
    control: str = "",
    episodes: int | None = None,
    stochastic: bool = False,
    video: Video | None = None,
    moved: dict[str, Any] | None = None,
) -> Path:
    """Draw samples from a trained generative model, or record episodes of a trained agent.

    The samples are a picture and an array; the episodes are a GIF, side by side, with the return above each.

    Args:
        run: the run folder.
        n: how many.
        seed: of the sampler's noise.
        name: of the files in the run folder: <name>.png and <name>.npy; for waves also <name>.wav; where the model shows more,
            <name>-<what>.png.
        label: classes of a model with labels, as 3 or 0,1,2: they take turns.
        image: of a super-resolution model or a cascade, the low-resolution image that samples are drawn from, or a folder of such,
            which take turns; without, a super-resolution model takes those of held-out examples.
        level: of a cascade, the noise level of the low-resolution images in between, or of --image.
        sampler: of a diffusion model: ancestral, ancestral-large, ddim, heun, churn, dpm-solver, dpm-solver-sde, langevin,
            predictor-corrector, or multistep of a consistency model.
        grid: noise levels that the sampler visits: spaced, trailing, quadratic, glide, karras or geometric.
        steps: of the sampler of a diffusion model.
        guidance: strength w of guidance by the label or the prompt; 0 is none.
        compare: draw the same noise by every sampler as well, into <name>-compare.png.
        checkpoint: newest, best (of a run with --eval_every), or the step of one that is kept.
        churn: S_churn of the samplers heun and churn: noise that is added before the N steps raises each level by S_churn / N.
        churn_min: S_min, the lowest level at which noise is added.
        churn_max: S_max, the highest level at which noise is added.
        churn_std: S_noise, the standard deviation of that noise.
        ema: relative width of the average of the weights, such as 0.07, of a run trained with --ema_power.
        prompt: caption of every sample, of a model of captions, as "a small red circle at the top left on the white ground".
        prompts: text file with a prompt in each line; they take turns, and <name>.txt has that of each sample.
        control: file of the picture that all samples of a ControlNet follow, edges or a mask: white on black, of the run's size.
        episodes: of an agent, how many are recorded, each from its own seed; 3 where nothing is said.
        stochastic: an agent draws its actions from its policy, as in training, in place of the best ones.
        video: kind of file of the episodes, gif or mp4 (needs the extra 'video').
        moved: data that lie elsewhere now, as '{"data_dir": "place"}' or --data_dir place.

    Raises:
        UsageError: the run has no generative model, no checkpoint, or a model that does not take an option.
    """
    if n < 1:
        raise UsageError(f"--n must be at least 1, not {n}.")
    refuse_name(name)
    opened = Run.open(run)
    opened.moved = moved or {}
    spec = current_spec(opened)
    opened.wanted = chosen(opened, checkpoint)
    with noise_to(opened.path / "log.txt"), data_found(opened):
        named = {"churn": churn, "churn_min": churn_min, "churn_max": churn_max, "churn_std": churn_std}
        given = {setting: value for setting, value in named.items() if value is not None}
        how = Drawing(
            label,
            sampler,
            grid,
            steps,
            guidance,
            compare,
            given,
            image,
            level,
            ema,
            prompts_of(prompt, prompts),
            control,
            episodes,
            stochastic,
            video,
        )
        drawn = engine(recipe(spec.recipe)).sample(opened, n=n, seed=seed, name=name, how=how)
    opened.push()
    remark(opened)
    return drawn


def refuse_name(name: str) -> None:
    """Refuse a name that is no name of a file in the run folder.

    Raises:
        UsageError: it is none.
    """
    plain = name.isprintable() and not set("/\\") & set(name) and not name.startswith(".")
    if not plain or not 0 < len(name.encode()) < 200:
        raise UsageError(f"--name is the name of files in the run folder, such as samples, not {shown(name)}.")


def evaluate(
    run: str,
    *,
    json: bool = False,
    checkpoint: str = "newest",
    ema: float | None = None,
    features: str | None = None,
    reference: str | None = None,
    eval_samples: int | None = None,
    moved: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Measure a run's checkpoint again.

    Prints the metrics of the run's recipe.

    Args:
        run: the run folder.
        json: print JSON, for programs.
        checkpoint: newest, best (of a run with --eval_every), or the step of one that is kept.
        features: network that samples of images are compared by, in place of the run's own: efficientnet_lite0, or a file.
        reference: what they are compared with, in place of the run's own: train, test, or a file of statistics.
        eval_samples: how many are compared, in place of the run's own number.
        ema: relative width of the average of the weights, such as 0.07, of a run trained with --ema_power.
        moved: data that lie elsewhere now, as '{"data_dir": "place"}' or --data_dir place.

    Raises:
        UsageError: the run has no such checkpoint, or it is not of a model of images that features can compare.
    """
    opened = Run.open(run)
    other = {"features": features, "reference": reference, "eval_samples": eval_samples}
    opened.moved = moved or {}
    spec = current_spec(opened)
    if given := {name: value for name, value in other.items() if value is not None}:
        if not given.keys() <= known(spec.recipe).keys():
            raise UsageError(f"{opened} has no model of images: leave --{next(iter(given))} out.")
        opened.moved |= given
        spec = current_spec(opened)
    opened.wanted = chosen(opened, checkpoint)
    with noise_to(opened.path / "log.txt"), data_found(opened):
        work = engine(recipe(spec.recipe))
        metrics, step = work.evaluate(opened, ema)
        splits = work.splits(opened, metrics)
    remark(opened)
    if json:
        import json as to

        print(to.dumps({"step": step, "metrics": metrics, "splits": splits}))
    else:
        print(f"{opened} at step {step}")
        for name, value in metrics.items():
            print(f"  {name:24} {brief(value):12} {splits.get(name, '')}".rstrip())
    return metrics


def remark(run: Run) -> None:
    """Print to stderr what to know of the checkpoint that was used: a damaged one was passed over, the run has not finished."""
    lines = list(run.notes)
    if run.result is None and run.used:
        steps = (run.read("status.json") or {}).get("steps") or run.spec.settings.get("steps")
        of = f" of {steps}" if isinstance(steps, int) else ""
        lines.append(f"{run} has not finished: this is its checkpoint of step {run.step_of(run.used)}{of}.")
    for line in lines:
        print(f"reprise: {line}", file=sys.stderr)
