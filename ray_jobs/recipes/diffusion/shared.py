"""What recipes of diffusion share: the networks of images, and measures: against known denoisers, and of labels by a judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from ray_jobs.recipe.measures import measuring

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from datamodules.base import Data
    from datamodules.labs.density2d import Density2D
    from datamodules.labs.gauss_image import GaussImage
    from datamodules.labs.gauss_pair import GaussPair
    from datamodules.readers.digits import Digits
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.diffusion.models.cascade import Cascade
    from lightning_modules.diffusion.preconditioning import Denoiser
    from lightning_modules.nets.dit import DiT
    from lightning_modules.nets.embed import Features

Backbone = Literal["unet", "dit"]
"""The network of a recipe of images: a U-Net, or a transformer over patches (DiT)."""

LEVELS = (0.0, 0.2, 0.5, 1.0)
"""Noise levels of the low-resolution images of a cascade, among which the best is chosen after training."""


def image_net(
    kind: Backbone,
    data: Data,
    width: int,
    *,
    multiples: tuple[int, ...],
    blocks: int = 2,
    attention: tuple[int, ...] = (1,),
    head: int = 64,
    patch: int = 1,
    depth: int = 12,
    dropout: float = 0.0,
    outputs: int = 1,
    numbers: int = 0,
    adm: bool = False,
    bf16: bool = False,
    classes: int = 0,
    diffusers: bool = False,
) -> nn.Module:
    """The network of a denoiser of the images of `data`.

    Args:
        kind: which network.
        width: channels of the U-Net at full resolution; see `transformer` for a DiT.
        multiples, blocks, attention, head: of the U-Net.
        patch: side of the squares of pixels that the U-Net works on; a DiT's patches have at least twice as many pixels to a side.
        depth: blocks of the DiT.
        dropout, outputs, numbers, bf16, classes: of either.
        adm: whether the U-Net has ADM's blocks: AdaGN, and residual blocks that halve and double.
        diffusers: whether it is a network that diffusers has: given the index of the level, and with one number of groups.

    Raises:
        ValueError: the U-Net cannot halve images of this size, or the DiT cannot cut them into patches.
    """
    from lightning_modules.nets.embed import index_waves
    from lightning_modules.nets.residual import grouped, norm
    from lightning_modules.nets.unet import UNet

    if kind == "dit":
        net: DiT | UNet = transformer(
            data.shape,
            width,
            depth,
            least=2 * patch,
            dropout=dropout,
            outputs=outputs,
            numbers=numbers,
            bf16=bf16,
            classes=classes,
            waves=partial(index_waves, dim=256, shift=1) if diffusers else None,
        )
    else:
        net = UNet(
            data.shape[0], width=width, multiples=multiples, blocks=blocks, attention=attention, head=head,
            dropout=dropout, bf16=bf16, outputs=outputs, numbers=numbers, classes=classes, patch=patch, scale_shift=adm,
            residual_resampling=adm, features=partial(index_waves, dim=width) if diffusers else None,
        )  # fmt: skip
        if diffusers:
            grouped(net, norm(width).num_groups)
    net.check(data.shape)
    return net


digits_net = partial(image_net, multiples=(1, 2), blocks=1, head=24, depth=4)
"""The network of handwritten digits."""
imagenet64_net = partial(image_net, multiples=(1, 2, 3, 4), blocks=3, attention=(1, 2, 3), adm=True)
"""ADM's network of ImageNet in 64x64 pixels."""


def level_input(levels: Tensor, diffusers: bool) -> Callable[[Tensor], Tensor]:
    """What a network of images is given about a level: its logarithm, or its index in the table, as diffusers' networks are."""
    import torch

    from lightning_modules.diffusion import schedules

    return partial(schedules.index_of, levels=levels) if diffusers else torch.log


def transformer(
    shape: tuple[int, ...],
    width: int,
    depth: int,
    *,
    least: int = 2,
    dropout: float,
    outputs: int,
    bf16: bool,
    numbers: int = 0,
    classes: int = 0,
    waves: Features | None = None,
) -> DiT:
    """A DiT of about as many weights as a U-Net of this width: 3 width features, rounded to a multiple of 12; DiT-S for 128.

    Its heads have at least 64 features. Its patches have `least` pixels to a side, and more where the images have 64 or more, so that
    there are at most 31 x 31 patches.
    """
    from lightning_modules.nets.dit import DiT, Size

    features = 12 * max(1, round(width / 4))
    heads = next(h for h in range(max(1, features // 64), 0, -1) if features % h == 0)
    patch = max(least, 2 ** ((max(shape[1:]) // 16).bit_length() - 1))
    size = Size(features, depth, heads)
    return DiT(
        shape[0], size, patch=patch, dropout=dropout, outputs=outputs, numbers=numbers, bf16=bf16, classes=classes,
        features=waves,
    )  # fmt: skip


def against_optimum(model: Denoising, data: GaussImage) -> dict[str, float]:
    """Excess of the noise's error over the least possible; nats lost in the bound; samples over the sampling floor."""
    from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
    from lightning_modules.metrics.likelihood import noise_excess

    rng, truth = measuring(), (data.mean, data.cov)
    x = data.test(8192)["x"].to(model.device)
    excess, floor = noise_excess(model.denoiser(), data.denoise, x, model.bound.levels, rng=rng)
    bound = model.log_prob(x[:2048], terms=50, rng=rng).double().mean().item()
    drawn = frechet_of(model.sample(4096, rng=rng).cpu(), truth)
    return {
        "noise_excess": excess / floor,
        "bound_lost": (data.best_bound(model.bound.levels, model.bound.variance) - bound) / x[0].numel(),
        "frechet_ratio": drawn / frechet_floor(lambda n, g: data.draw(n, g)["x"], truth, 4096),
    }


def against_mixture(model: Denoising, data: Density2D) -> dict[str, float]:
    """Excess of the noise's error over the least possible; samples over the sampling floor; shares of the components."""
    from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
    from lightning_modules.metrics.likelihood import noise_excess

    rng, truth = measuring(), data.density.moments()
    x = data.test(16384)["x"].to(model.device)
    excess, floor = noise_excess(model.denoiser(), data.density.denoise, x, model.bound.levels, rng=rng)
    drawn = model.sample(4096, rng=rng, batch=4096).cpu()
    return {
        "noise_excess": excess / floor,
        "frechet_ratio": frechet_of(drawn, truth) / frechet_floor(data.density.draw, truth, 4096, repeats=100),
        "component_share_error": data.density.coverage(drawn),
    }


def w2_ratios(
    models: Mapping[int, Denoising], data: Density2D, rng: torch.Generator, *, repeats: int = 4
) -> tuple[dict[int, Tensor], dict[str, float]]:
    """Samples [1024, 2] by their number of steps N; w2_ratio_N: their Wasserstein distance to examples over that of other examples.

    Args:
        models: number of steps -> the model that draws in so many.
        repeats: sets of examples over which both distances are averaged.
    """
    from lightning_modules.metrics.samples import wasserstein

    truths, others = ([data.density.draw(1024, rng).float() for _ in range(repeats)] for _ in range(2))
    floor = sum(map(wasserstein, others, truths))
    drawn = {n: model.sample(1024, rng=rng, steps=n, batch=1024).cpu() for n, model in models.items()}
    return drawn, {f"w2_ratio_{n}": sum(wasserstein(x, truth) for truth in truths) / floor for n, x in drawn.items()}


def against_pairs(model: Cascade, data: GaussPair) -> dict[str, float]:
    """The learned cascade against closed forms.

    noise_excess_S: error of the super-resolution model's noise over the least one, given twins with noise of level S; noise_excess: the
    larger one of 0.2 and 1. Twins without noise fix every mean of 2 x 2 pixels, which a network learns slowly. base_excess: of the base.
    frechet_S: squared Frechet distance of 2,048 samples to the data at the level S; chosen_level: the best of these on other samples;
    frechet_chosen: the distance there; frechet_floor: that of as many true examples. wide_S: the distance where the base draws 1.5
    times the variance; exact_wide_S: what it is for an exact super-resolution model.
    """
    import math

    import torch

    from lightning_modules.conditions import Cond
    from lightning_modules.metrics.gaussian import frechet, frechet_floor, frechet_of
    from lightning_modules.metrics.likelihood import noise_excess

    small, large = model.parts
    twin, rng, truth = large.learn.augment, measuring(), (data.mean, data.cov)  # type: ignore[union-attr]
    batch = {name: value.to(model.device) for name, value in data.test(8192).items()}
    excess, floor = noise_excess(small.denoiser(), data.denoise_low, batch["low"], small.bound.levels, rng=rng)
    found = {"base_excess": excess / floor}
    for s in (0.0, 0.2, 1.0):
        cond = twin.at(Cond(image=batch["low"]), s, rng)  # type: ignore[union-attr]
        exact = partial(data.denoise_given, low=math.hypot(1, s) * cond.image, s=s)
        excess, floor = noise_excess(large.denoiser(cond), exact, batch["x"], large.bound.levels, rng=rng)
        found[f"noise_excess_{s:g}"] = excess / floor
    found["noise_excess"] = max(found["noise_excess_0.2"], found["noise_excess_1"])

    def distance(x: Tensor) -> float:
        return frechet_of(x.cpu(), truth)

    first, second = (at_level(model, small.sample(2048, rng=rng), lambda x: -distance(x), rng) for _ in range(2))
    chosen, of = best_level(LEVELS, first, second)
    found |= {f"frechet_{s:g}": -score for s, score in of.items()}
    found |= {"chosen_level": chosen, "frechet_chosen": -of[chosen]}
    found["frechet_floor"] = frechet_floor(lambda n, g: data.draw(n, g)["x"], truth, 2048)
    wide = 1.5 * data.low_cov
    z = torch.randn(2048, len(wide), generator=rng, dtype=torch.float64) @ torch.linalg.cholesky(wide).T + data.low_mean
    drawn = z.float().reshape(-1, *data.low_shape).to(model.device)
    for s in (LEVELS[0], LEVELS[-1]):
        found[f"wide_{s:g}"] = distance(model.sample(len(drawn), Cond(image=drawn), rng=rng, level=s))
        found[f"exact_wide_{s:g}"] = frechet(*data.of_cascade(s, wide), *truth)
    return found


def best_level(
    levels: Iterable[float], choose: Callable[[float], float], measure: Callable[[float], float]
) -> tuple[float, dict[float, float]]:
    """The level with the highest score by `choose`, and the scores of all levels by `measure`, on data of its own."""
    return max(levels, key=choose), {s: measure(s) for s in levels}


def at_level(
    model: Cascade, low: Tensor, score: Callable[[Tensor], float], rng: torch.Generator, label: Tensor | None = None
) -> Callable[[float], float]:
    """Level -> the score of samples from these images of the base [n, C, h, w], and of these labels."""
    from lightning_modules.conditions import Cond

    return lambda s: score(model.sample(len(low), Cond(label=label, image=low), rng=rng, level=s).cpu())


def guided_excess(
    model: Denoising, guided: Denoiser, exact: Denoiser, x: Tensor, label: Tensor, data: Density2D
) -> float:
    """Error of the noise of a guided denoiser against the exact one's, over the least error that the noise of a class can have.

    Args:
        model: its levels are those that count.
        guided, exact: of the labels [N] of the examples x [N, D].
    """
    from lightning_modules.metrics.likelihood import noise_excess

    of_class = partial(data.density.denoise_given, label=label)
    excess, _ = noise_excess(guided, exact, x, model.bound.levels, rng=measuring())
    _, floor = noise_excess(of_class, of_class, x, model.bound.levels, rng=measuring())
    return excess / floor


def of_classes(model: Denoising, data: Density2D, strength: float, *, n: int = 4096) -> dict[str, float]:
    """Samples of given components at this strength of guidance.

    label_accuracy: share whose likeliest component is the given one. class_frechet_ratio: mean squared Frechet distance of a class's
    samples to that component, over that of as many true examples.
    """
    import torch

    from lightning_modules.metrics.gaussian import frechet_floor, frechet_of

    density, label = data.density, torch.arange(n) % data.classes
    x = model.sample(n, label, guidance=strength, rng=measuring(), batch=n).cpu()
    likeliest = density.log_label(x, torch.zeros(n)).argmax(1)
    ours = floor = 0.0
    for k in range(data.classes):
        truth, root = (density.mean[k], density.cov[k]), torch.linalg.cholesky(density.cov[k])
        ours += frechet_of(x[label == k], truth)
        floor += frechet_floor(partial(gaussian, truth[0], root), truth, n // data.classes)
    return {"label_accuracy": (likeliest == label).double().mean().item(), "class_frechet_ratio": ours / floor}


def gaussian(mean: Tensor, root: Tensor, n: int, rng: object) -> Tensor:
    """n draws [n, D] of a Gaussian, by its mean and a root of its covariance."""
    import torch

    return mean + torch.randn(n, len(mean), generator=rng, dtype=mean.dtype) @ root.T  # type: ignore[call-overload]


def of_digits(model: Denoising, data: Digits, strengths: tuple[float, ...], *, n: int = 1000) -> dict[str, float]:
    """Samples of given digits at these strengths of guidance, judged by a support vector machine that was fitted to the training digits.

    accuracy_W: share that the judge takes for the given digit; accuracy_held_out: that of held-out digits. spread_W: mean variance of a
    pixel among samples of one digit, over that among training images of one digit.
    """
    import torch
    from sklearn.svm import SVC

    real, held_out = data.seen(), data.test()
    judge = SVC(gamma="scale").fit(real["x"].flatten(1).numpy(), real["label"].numpy())

    def accuracy(x: Tensor, label: Tensor) -> float:
        return float(judge.score(x.flatten(1).numpy(), label.numpy()))

    found = {"accuracy_held_out": accuracy(held_out["x"], held_out["label"])}
    label, truth = torch.arange(n) % data.classes, spread(real["x"], real["label"])
    for w in strengths:
        x = model.sample(n, label, guidance=w, rng=measuring(), batch=n).float().cpu()
        found |= {f"accuracy_{w:g}": accuracy(x, label), f"spread_{w:g}": spread(x, label) / truth}
    return found | {"accuracy_gain": found[f"accuracy_{strengths[-1]:g}"] - found[f"accuracy_{strengths[0]:g}"]}


def spread(x: Tensor, label: Tensor) -> float:
    """Mean variance of an entry of the examples x [N, *D] of one label."""
    return sum(x[label == k].var(0).mean().item() for k in label.unique()) / len(label.unique())
