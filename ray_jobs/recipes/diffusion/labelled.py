"""Measures of diffusion models of labels: against a mixture whose classes are known, and by a classifier of digits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ray_jobs.recipe.measures import measuring

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.labs.density2d import Density2D
    from datamodules.readers.digits import Digits
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.diffusion.preconditioning import Denoiser


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
        x = model.sample(n, label, guidance=w, rng=measuring(), steps=min(50, len(model.bound.levels))).float().cpu()
        found |= {f"accuracy_{w:g}": accuracy(x, label), f"spread_{w:g}": spread(x, label) / truth}
    return found | {"accuracy_gain": found[f"accuracy_{strengths[-1]:g}"] - found[f"accuracy_{strengths[0]:g}"]}


def spread(x: Tensor, label: Tensor) -> float:
    """Mean variance of an entry of the examples x [N, *D] of one label."""
    return sum(x[label == k].var(0).mean().item() for k in label.unique()) / len(label.unique())
