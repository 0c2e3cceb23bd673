"""Every recipe of a generative model, as small as it can be built, on data that need no network."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ray_jobs.recipe.loading import kind, names, recipe, systems
from ray_jobs.recipe.plan import Fit
from ray_jobs.recipe.settings import known
from ray_jobs.recipe.spec import Spec
from ray_jobs.train.fit import prepare

SMALL = {
    "width": 4, "depth": 1, "hidden": 4, "head": 4, "blocks": 1, "couplings": 2, "layers": 2, "stacks": 1, "residual": 4,
    "skip": 4, "orders": 3, "latents": 2, "context": 2, "kernels": 2, "batch": 4, "steps": 2, "bins": 2, "length": 24,
    "save_every": 1, "log_every": 1, "num_workers": 0, "threads": 1,
}  # fmt: skip
"""Settings, where a recipe has them."""
OTHER: dict[str, dict[str, Any]] = {
    "ddpm_cifar10": {"width": 8, "levels": 25},
    "ddpm_digits": {"width": 24, "levels": 25, "dropout": 0.5},
    "ddpm_gauss_image": {"levels": 25},
    "ddpm_mnist": {"width": 8, "levels": 25},
    "ddpm_mixture2d": {"levels": 25},
    "consistency_mixture2d": {"steps": 6},
    "consistency_mixture2d@improved": {"steps": 6},
    "consistency_mixture2d@training": {"steps": 6},
    "cascade": {"width": 8, "size": 32, "factor": 4, "drop": 0.5, "sample_steps": 2},
    "cascade_gauss_pair": {"sample_steps": 3, "steps": 4},
    "cascade_imagenet": {"width": 8, "size": 64, "levels": 25, "sample_steps": 2},
    "cascade_shapes": {"sample_steps": 3, "steps": 5},
    "ddpm": {"width": 8, "levels": 25},
    "edm": {"width": 8, "drop": 0.5},
    "flow_matching": {"width": 8, "transport": True, "drop": 0.5},
    "flow_mixture2d@transport": {"batch": 8},
    "improved_ddpm": {"width": 8, "levels": 25, "drop": 0.5},
    "ncsn": {"width": 8, "levels": 2, "repeats": 2, "drop": 0.5},
    "glide": {"levels": 8, "text_width": 4, "text_depth": 1, "sample_steps": 3},
    "glide_coco": {
        "levels": 8,
        "text_width": 4,
        "text_depth": 1,
        "sample_steps": 3,
        "bf16": False,
        "checkpoint": False,
    },
    "glide_shapes": {"levels": 8, "sample_steps": 3, "bf16": False},
    "glide_shapes@clip": {"levels": 8, "sample_steps": 3, "clip_steps": 1, "bf16": False},
    "clip_shapes": {"levels": 8},
    "edm_emoji": {"sample_steps": 3, "judge_steps": 1, "patch": 4, "bf16": False},
    "glide_emoji": {"levels": 8, "sample_steps": 3, "judge_steps": 1, "bf16": False},
    "pd_mixture2d": {"steps": 6, "first": 4, "halvings": 2},
    "progressive_distillation": {"width": 8, "steps": 6, "first": 4, "halvings": 2},
    "reflow_mixture2d": {"steps": 6, "path": 2},
    "iddpm_cifar10": {"width": 8, "levels": 8},
    "iddpm_digits": {"levels": 25},
    "iddpm_gauss_image": {"levels": 25},
    "iddpm_gauss_image@bound": {"levels": 25},
    "adm_classifier_imagenet64": {"width": 8, "levels": 25},
    "adm_digits": {"levels": 25, "sample_steps": 3, "classifier_steps": 1},
    "adm_imagenet64": {"width": 8, "classifier_width": 8, "classifier_steps": 1, "levels": 25, "sample_steps": 3},
    "adm_mixture2d": {"levels": 25, "classifier_steps": 1},
    "cfg_digits": {"sample_steps": 3},
    "cfg_imagenet64": {"width": 8, "sample_steps": 3},
    "cfg_mixture2d": {"sample_steps": 3},
    "controlnet": {"width": 8, "steps": 4, "drop": 0.5},
    "controlnet_imagenet64": {"width": 8, "sample_steps": 3, "base_steps": 1},
    "controlnet_shapes": {"steps": 6, "sample_steps": 3},
    "ddim_cifar10": {"width": 8, "levels": 25, "sample_steps": 10},
    "ddim_gauss_image": {"levels": 25},
    "ncsn_cifar10": {"width": 8, "levels": 2},
    "ncsn_mixture2d": {"levels": 2, "repeats": 2},
    "edm_cifar10": {"width": 8},
    "edm_fashion": {"width": 8},
    "flow_cifar10": {"width": 8},
    "iaf_vae_cifar10": {"size": 2, "blocks": 2},
    "improved_gan_grid": {"virtual": True, "history": 0.1, "batch": 64},
    "improved_gan_cifar10": {"batch": 64},
    "autoencoder": {"width": 8, "kind": "vq", "codes": 4, "adversarial_from": 1},
    "autoencoder_shapes": {"width": 8},
    "autoencoder_shapes@adversarial": {"width": 8, "adversarial_from": 1},
    "autoencoder_shapes@vq": {"width": 8, "codes": 8},
    "kl_f8": {"width": 8, "size": 32, "adversarial_from": None},
    "vq_f4": {"width": 8, "size": 32},
    "ldm": {"width": 8, "autoencoder_width": 8, "levels": 25, "steps": 6, "drop": 0.5},
    "ldm_fashion": {"width": 8, "autoencoder_width": 8, "levels": 25, "steps": 6},
    "ldm_gauss_image": {"levels": 25, "steps": 8},
    "ldm_imagenet256": {
        "width": 8,
        "autoencoder_width": 8,
        "levels": 25,
        "size": 32,
        "steps": 4,
        "autoencoder_steps": 2,
    },
    "ldm_shapes": {"width": 8, "autoencoder_width": 8, "levels": 25, "sample_steps": 3, "steps": 6},
    "ldm_shapes@vq": {"width": 8, "autoencoder_width": 8, "codes": 8, "levels": 25, "sample_steps": 3, "steps": 6},
    "maf_density2d@mog_ring": {"components": 2},
    "wgan_lsun": {"size": 16},
}
"""Settings of single recipes."""
OWN = {
    "maf": "moons", "iaf": "moons", "nsf": "moons", "nice": "digits", "realnvp": "digits", "glow": "digits", "vae": "digits",
    "gan": "moons", "dcgan": "digits", "wgan": "digits", "wgan_gp": "moons", "ddpm": "digits", "pixelcnn": "digits",
    "row_lstm": "digits", "diagonal_bilstm": "digits", "made": "ising", "wavenet": "echoes", "improved_ddpm": "digits",
    "edm": "digits", "flow_matching": "digits", "ncsn": "digits", "progressive_distillation": "moons", "consistency": "moons",
    "autoencoder": "digits", "cascade": "shapes", "controlnet": "digits", "glide": "shapes", "ldm": "digits",
}  # fmt: skip
"""Data of the systems that a user trains by their own names."""


IMAGENET = {"kl_f8", "vq_f4"}
"""Recipes of ImageNet that do not have it in their names."""


def models() -> list[str]:
    """The names of all recipes of generative models, systems by their own names included.

    Of the variants, which are the same models on other data, only those are here that run other code.
    """
    fits = [name for name in names() if kind(recipe(name)) is Fit and ("@" not in name or name in OTHER)]
    return fits + [name for name, found in systems().items() if kind(found) is Fit]


def smallest(name: str, folder: Path, **more: Any) -> Fit:
    """The plan of a recipe, as small as it can be built, ready to train.

    Args:
        name: of the recipe.
        folder: for data that the recipe reads from files.
        more: settings that differ.
    """
    has = known(name)
    settings = {k: v for k, v in SMALL.items() if k in has} | OTHER.get(name, {}) | more
    if "data_dir" in has:
        settings["data_dir"] = str(pictures(folder, name, settings.get("size", 32)))
    if "source" in has:
        settings["source"] = str(waves(folder))
    if "folder" in has:
        settings["folder"] = str(rows(folder))
    if "network" in has:
        settings |= {"network": str(network(folder)), "data": "digits"}
    if name in systems():
        settings["data"] = OWN[name]
    made = prepare(Spec(name, settings, 0))
    if "levels" not in has:
        for part in made.model.modules():
            few_terms(part)
    whole = made.data.test

    def few(n: int | None = None) -> Any:
        return whole(min(n, 8)) if n else {k: v[:8] for k, v in whole().items()}

    made.data.test = few  # type: ignore[method-assign]  # evaluations take thousands
    return made


def few_terms(model: Any) -> None:
    """Let the bound of a diffusion without a table of levels have the terms of few of its levels."""
    from lightning_modules.diffusion.denoising import Denoising

    if isinstance(model, Denoising) and len(levels := model.bound.levels) > 8:
        kept = torch.linspace(0, len(levels) - 1, 8).round().long()
        model.bound = replace(model.bound, levels=levels[kept])


def pictures(folder: Path, name: str, size: int) -> Path:
    """A folder of parquet files with 80 images to train on and 16 held out, in the columns of the hub's sets."""
    import datasets
    from PIL import Image

    grey, lsun, imagenet = "mnist" in name or "fashion" in name, "lsun" in name, name in IMAGENET or "imagenet" in name
    side = size if lsun else 64 if imagenet or "coco" in name else 32
    captioned = "coco" in name or "emoji" in name
    rng, shape = np.random.default_rng(0), (28, 28) if grey else (side, side, 3)

    def png() -> dict[str, Any]:
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file, "png")
        return {"bytes": file.getvalue(), "path": None}

    for part, n in (("train", 80), ("validation" if imagenet else "test", 16)):
        columns: dict[str, Any] = {
            "image" if grey or lsun or imagenet or captioned else "img": [png() for _ in range(n)]
        }
        if captioned:
            columns["caption"] = [f"a picture of {'grey noise' if i % 2 else 'colours'}" for i in range(n)]
        if not lsun:
            columns["label"] = [i % 10 for i in range(n)]
        datasets.Dataset.from_dict(columns).to_parquet(str(folder / f"{part}-00000.parquet"))
    return folder


def waves(folder: Path) -> Path:
    """A folder of WAV files, one of them held out."""
    from scipy.io import wavfile

    rng = np.random.default_rng(0)
    (folder / "test").mkdir()
    for path in (folder / "0.wav", folder / "1.wav", folder / "test" / "0.wav"):
        wavfile.write(path, 16_000, rng.integers(-9999, 9999, 480, dtype=np.int16))
    return folder


def network(folder: Path) -> Path:
    """A network of digits in a folder of diffusers."""
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.ddpm import ddpm
    from lightning_modules.exchange.model import exported
    from lightning_modules.nets.embed import index_waves
    from lightning_modules.nets.residual import grouped
    from lightning_modules.nets.unet import UNet
    from ray_jobs.run.diffusers_folder import save

    table = schedules.linear(25, 4e-3, 0.8)
    net = grouped(
        UNet(1, width=4, multiples=(1,), blocks=1, attention=(), head=4, features=partial(index_waves, dim=4)), 1
    )
    index = partial(schedules.index_of, levels=table)
    save(folder / "network", exported(ddpm(net, (1, 8, 8), levels=table, level_input=index)), "")
    return folder / "network"


def rows(folder: Path) -> Path:
    """The folder of UCI's tables, with few rows of POWER."""
    (folder / "data" / "power").mkdir(parents=True)
    np.save(folder / "data" / "power" / "data.npy", np.random.default_rng(0).normal(5, 3, (200, 8)))
    return folder
