"""Recipes of classifier guidance (ADM-G)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipes.diffusion.ddpm import linear
from ray_jobs.recipes.diffusion.shared import Backbone, digits_net, guided_excess, imagenet64_net, of_classes, of_digits

if TYPE_CHECKING:
    from datamodules.base import Data
    from datamodules.labs.density2d import Density2D
    from datamodules.readers.digits import Digits
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.diffusion.models.classifier_guidance import NoisyClassifier
    from lightning_modules.nets.encoders import UNetEncoder
    from lightning_modules.staged import Staged

PAPER = Headline("Dhariwal & Nichol 2021", arxiv="2105.05233")
NEEDS = {"classifier": "a finished run of adm_classifier_imagenet64, for --classifier_steps 0"}


@fit(
    system="Classifier guidance", data="density2d", headline=PAPER, claim=Claim("classifier_excess", at_most=0.01),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=4500, batch=1024, ema=0.998,
)  # fmt: skip
def adm_mixture2d(
    *,
    steps: int,
    density: str = "ring",
    width: int = 64,
    depth: int = 3,
    levels: int = 200,
    classifier_steps: int | None = None,
) -> Fit:
    """A noisy classifier that guides a diffusion model without labels to the components of a mixture in the plane.

    Args:
        steps: of the classifier and of the diffusion model.
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        levels: noise levels in training and sampling.
        classifier_steps: of the classifier, before the diffusion model; None: a third.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion.models.classifier_guidance import classifier_guidance
    from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
    from lightning_modules.nets.encoders import VectorEncoder
    from lightning_modules.nets.mlp import ResidualMLP
    from lightning_modules.optim import AdamW

    data = Density2D(name=density, labels=True)
    net = ResidualMLP(data.shape, width=width, depth=depth, outputs=2)
    model = classifier_guidance(
        ImprovedDDPM(net, data.shape, levels=linear(levels), optim=AdamW(3e-3, 100)),
        VectorEncoder(data.shape, data.classes, width=width, depth=depth),
        classes=data.classes,
        steps=steps,
        classifier_steps=steps // 3 if classifier_steps is None else classifier_steps,
        optim=AdamW(3e-3, 100),
    )
    return Fit(model, data, against_bayes)  # type: ignore[arg-type]


def parts(model: Staged) -> tuple[NoisyClassifier, Denoising]:
    """The classifier, and the diffusion model that it guides."""
    classifier, diffusion = (stage.model for stage in model.stages)
    return classifier, diffusion  # type: ignore[return-value]


def against_bayes(model: Staged, data: Density2D) -> dict[str, float]:
    """The classifier and what it guides, against the exact classifier and the exact denoisers of the components.

    classifier_excess: cross-entropy of the classifier above the exact one's, in nats, which is the mean KL divergence; over all levels.
    guided_excess: see there, at scale 1, where guidance makes the denoiser of the class. And `of_classes` at scale 1.
    """
    import torch

    from lightning_modules.conditions import Cond
    from lightning_modules.diffusion.guidance import classifier_guided, given

    classifier, diffusion = parts(model)
    batch, rng = data.test(16384), measuring()
    x, label = batch["x"].to(model.device), batch["label"].to(model.device)
    table = diffusion.bound.levels
    sigma = table[torch.arange(len(x), device=table.device) % len(table)].to(x)
    y = x + sigma[:, None] * torch.randn(x.shape, generator=rng).to(x)
    with torch.no_grad():
        ours = classifier.logits(y, sigma).log_softmax(1).double().cpu()
    exact = data.density.log_label(y, sigma).cpu()
    guided = classifier_guided(diffusion.denoiser(), given(classifier.log_label, Cond(label=label)))
    of_class = partial(data.density.denoise_given, label=label)
    return {
        "classifier_excess": (exact.exp() * (exact - ours)).sum(1).mean().item(),
        "guided_excess": guided_excess(diffusion, guided, of_class, x, label, data),
    } | of_classes(diffusion, data, 1.0)


@fit(
    system="Classifier guidance", data="digits, writers shared by both parts", headline=PAPER,
    claim=Claim("accuracy_gain", at_least=0.05), space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,24,32)"},
    steps=1600, batch=64, ema=0.995, grad_clip=1.0,
)  # fmt: skip
def adm_digits(
    *,
    steps: int,
    net: Backbone = "unet",
    width: int = 24,
    levels: int = 200,
    classifier_steps: int | None = None,
    sample_steps: int = 50,
) -> Fit:
    """A noisy classifier that guides a diffusion model of handwritten digits with labels: more of them are what they shall be.

    Args:
        steps: of the classifier and of the diffusion model.
        net: which network, a U-Net with ADM's blocks or a transformer over patches (DiT).
        width: channels of the U-Net and of the classifier at full resolution, twice as many at half; a third of the features of a DiT.
        levels: noise levels in training and sampling.
        classifier_steps: of the classifier, before the diffusion model; None: a quarter.
        sample_steps: of the sampler.
    """
    from datamodules.readers.digits import Digits
    from lightning_modules.diffusion.models.classifier_guidance import classifier_guidance
    from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
    from lightning_modules.nets.encoders import UNetEncoder
    from lightning_modules.optim import AdamW

    data = Digits()
    made = digits_net(net, data, width, outputs=2, classes=data.classes, adm=True)
    model = classifier_guidance(
        ImprovedDDPM(made, data.shape, levels=linear(levels), clip=True, label_drop=0.0, optim=AdamW(2e-3, 100)),
        UNetEncoder(data.shape, data.classes, width=width, multiples=(1, 2), blocks=1, attention=(1,), head=24),
        classes=data.classes,
        steps=steps,
        classifier_steps=steps // 4 if classifier_steps is None else classifier_steps,
        sample_steps=min(sample_steps, levels),
        optim=AdamW(2e-3, 100, weight_decay=0.05),
    )
    return Fit(model, data, led_digits)  # type: ignore[arg-type]


def led_digits(model: Staged, data: Digits) -> dict[str, float]:
    """`of_digits` of the diffusion model at the scales 0 and 2."""
    return of_digits(parts(model)[1], data, (0.0, 2.0))


def of_imagenet(images: Data, width: int) -> UNetEncoder:
    """The classifier's network at the paper's scale for 64x64 pixels, of this width."""
    from lightning_modules.nets.encoders import UNetEncoder

    return UNetEncoder(images.shape, images.classes, width=width, head=min(64, width))


@fit(
    system="Classifier guidance", data="ImageNet, 64x64", headline=PAPER, space={"lr": "loguniform(1e-4,1e-3)"},
    steps=300_000, batch=256, num_workers=8, save_every=5000, log_every=100,
)  # fmt: skip
def adm_classifier_imagenet64(*, steps: int, width: int = 128, levels: int = 1000, data_dir: Location = "") -> Fit:
    """The noisy classifier of `adm_imagenet64` as a run of its own, from which that can start; needs GPUs.

    Args:
        steps: over which the learning rate falls to 0.
        width: channels at full resolution.
        levels: noise levels, on the cosine schedule.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    from torch import nn

    from datamodules.readers.images import Images
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.classifier_guidance import NoisyClassifier
    from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
    from lightning_modules.optim import AdamW

    images = Images(name="benjamin-paine/imagenet-1k-64x64", data_dir=data_dir)
    diffusion = ImprovedDDPM(nn.Identity(), images.shape, levels=schedules.cosine(levels), clip=True)
    optim = AdamW(3e-4, decay_steps=steps, weight_decay=0.05)
    model = NoisyClassifier(of_imagenet(images, width), diffusion, classes=images.classes, optim=optim)
    return Fit(model, images, recognised)  # type: ignore[arg-type]


def recognised(model: NoisyClassifier, data: Data) -> dict[str, float]:
    """accuracy_S: share of 2,048 held-out images whose likeliest class is theirs at the noise level S."""
    import torch

    batch = data.test(2048)
    x, label, rng = batch["x"], batch["label"], measuring()
    found = {}
    for level in (0.01, 1.0):
        y = x + level * torch.randn(x.shape, generator=rng)
        with torch.no_grad():
            logits = [
                model.logits(part.to(model.device), part.new_full((len(part),), level).to(model.device))
                for part in y.split(128)
            ]
        found[f"accuracy_{level:g}"] = (torch.cat(logits).argmax(1).cpu() == label).double().mean().item()
    return found


@fit(
    system="Classifier guidance", data="ImageNet, 64x64",
    headline=Headline("Dhariwal & Nichol 2021", arxiv="2105.05233", metric="FID", value=2.07, where="the authors' README"),
    space={"lr": "loguniform(5e-5,5e-4)"}, steps=840_000, batch=2048, ema=0.9999, num_workers=8, save_every=5000,
    log_every=100, needs=NEEDS,
)  # fmt: skip
def adm_imagenet64(
    *,
    steps: int,
    net: Backbone = "unet",
    width: int = 192,
    classifier_width: int = 128,
    classifier_steps: int = 300_000,
    levels: int = 1000,
    sample_steps: int = 250,
    dropout: float = 0.1,
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """ADM-G on ImageNet of 64x64 pixels at the paper's scale, a classifier and then a model of labels that it guides; needs GPUs.

    The authors' number is of scale 1: `reprise sample RUN --guidance 1 --label 0,1,2`.

    Args:
        steps: of the classifier and of the diffusion model, which takes 540,000.
        net: which network, a U-Net with ADM's blocks or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution; a third of the features of a DiT.
        classifier_width: channels of the classifier at full resolution.
        classifier_steps: of the classifier, before the diffusion model; 0 with --start classifier=RUN.
        levels: noise levels in training, on the cosine schedule.
        sample_steps: of the sampler.
        dropout: in the blocks of the diffusion model.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
        bf16: whether the diffusion model's network computes in bfloat16; the classifier never does.
    """
    from datamodules.readers.images import Images
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.classifier_guidance import classifier_guidance
    from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
    from lightning_modules.optim import AdamW

    images = Images(name="benjamin-paine/imagenet-1k-64x64", data_dir=data_dir)
    made = imagenet64_net(
        net, images, width, head=min(64, width), dropout=dropout, outputs=2, classes=images.classes, bf16=bf16
    )
    model = classifier_guidance(
        ImprovedDDPM(made, images.shape, levels=schedules.cosine(levels), clip=True, label_drop=0.0, optim=AdamW(3e-4)),
        of_imagenet(images, classifier_width),
        classes=images.classes,
        steps=steps,
        classifier_steps=classifier_steps,
        sample_steps=min(sample_steps, levels),
        optim=AdamW(3e-4, decay_steps=classifier_steps, weight_decay=0.05),
    )
    return Fit(model, images)
