"""The verbs `reprise export` and `reprise import`: trained networks for diffusers, and networks of diffusers as runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import engine, kind, recipe
from ray_jobs.recipe.settings import check, known
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import noise_to
from ray_jobs.train.earlier import current_spec, data_found
from ray_jobs.train.inspect import remark

if TYPE_CHECKING:
    from lightning_modules.diffusion.denoising import Denoising
    from ray_jobs.exchange.card import Origin
    from ray_jobs.train.fit import Trained

RECIPE = "pretrained"
"""Of imported networks."""


def export(
    run: str,
    folder: str,
    *,
    to: Literal["diffusers"] = "diffusers",
    raw: bool = False,
    moved: dict[str, Any] | None = None,
) -> Path:
    """Export the network of a diffusion run, for another library.

    The newest checkpoint is used. The new folder holds the network and its scheduler as safetensors and JSON, and a model card with
    recipe, seed, step and the checkpoint's hash. The run's network must be one that diffusers has: train it with --diffusers.

    Args:
        run: the run folder.
        folder: the folder to make.
        to: the library.
        raw: export the weights as they were trained, not their average.
        moved: data that lie elsewhere now, as '{"data_dir": "place"}' or --data_dir place.

    Raises:
        UsageError: the run has no diffusion model or no checkpoint, diffusers has no such network, or the folder is not empty.
    """
    from lightning_modules.exchange.model import exported
    from ray_jobs.exchange.card import text
    from ray_jobs.run.diffusers_folder import save

    opened = Run.open(run)
    opened.moved = moved or {}
    spec = current_spec(opened)
    with noise_to(opened.path / "log.txt"), data_found(opened):
        found = engine(recipe(spec.recipe)).model(opened)
        model = _diffusion(found, run)
        if raw:
            found.model.load_state_dict(opened.load(opened.used)["state_dict"])  # type: ignore[arg-type]  # `trained` sets it
        try:
            parts = exported(model)
        except ValueError as error:
            raise UsageError(f"{run} cannot be exported: {error}") from None
    origin, at = _origin(opened, found, raw), Path(folder)
    steps, labels = parts.schedule["num_train_timesteps"], model.net.condition.classes
    save(at, parts, text(origin, folder=at.name, network=parts.network, steps=steps, labels=labels))  # type: ignore[arg-type]
    remark(opened)
    return at


def _diffusion(found: Trained, run: str) -> Denoising:
    """The diffusion model of a run; of a staged one, its last part.

    Raises:
        UsageError: it has none.
    """
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.staged import Staged

    model = found.model.last if isinstance(found.model, Staged) else found.model
    if not isinstance(model, Denoising):
        raise UsageError(
            f"{run} has no diffusion model but a {type(model).__name__}: only networks of diffusion can be exported."
        )
    return model


def _origin(run: Run, found: Trained, raw: bool) -> Origin:
    """Where the weights of a run come from, for its model card."""
    from ray_jobs.exchange.card import Origin
    from ray_jobs.train.start import digest

    assert run.used is not None
    spec, record, result = run.spec, run.read("run.json") or {}, run.result or {}
    measured = found.step == result.get("step")
    return Origin(
        recipe=spec.recipe,
        title=recipe(spec.recipe).title,
        seed=spec.seed,
        step=found.step,
        checkpoint=run.used.name,
        sha256=digest(run.used),
        averaged=found.made.ema > 0 and not raw,
        settings={name: s.default for name, s in known(spec.recipe).items()} | spec.settings,
        git=record.get("git"),
        metrics=result.get("metrics", {}) if measured and not raw else {},
        measured_on=result.get("splits", {}),
    )


def import_network(folder: str, *, out: str | None = None, data: str = "") -> Path:
    """Import a network of diffusers as a run.

    The folder holds a UNet2DModel or a DiT, and a scheduler. The run is one of the recipe 'pretrained' that was trained for 0 steps
    here: `reprise sample` draws from it by any sampler, and `reprise train pretrained --network FOLDER` trains the network further.

    Args:
        folder: of the network, as diffusers saves it.
        out: the run folder to make.
        data: images to measure it with, as a folder or the name of a set.

    Raises:
        UsageError: the folder holds no such network, ours cannot express it, or the run folder is taken.
    """
    from ray_jobs.run.diffusers_folder import there

    network = there(folder).resolve()
    from ray_jobs.train import fit
    from ray_jobs.train.start import digest

    settings = check(RECIPE, {"network": str(network), "data": data, "ema": 0.0})
    spec = Spec(RECIPE, settings, out=out)
    model = fit.prepare(spec).model
    files = sorted(network.rglob("*.safetensors"))
    record = {"run": str(network), "recipe": "diffusers", "checkpoint": files[0].name, "sha256": digest(files[0])}
    run = Run.create(spec, kind=kind(recipe(RECIPE)).__name__, started_from={"network": record})
    state = {
        "global_step": 0,
        "epoch": 0,
        "state_dict": model.state_dict(),
        "optimizer_states": [],
        "lr_schedulers": [],
    }
    try:
        run.save(0, {**state, "loops": {}, "callbacks": {}})
        run.finish({}, step=0, device="cpu")
    finally:
        run.release()
    return run.path
