"""Evaluations that several recipes share: functions of a trained model and its data that return metrics by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datamodules.base import Data
    from datamodules.labs.density2d import Density2D
    from lightning_modules.autoregressive.discrete import Discrete
    from lightning_modules.flows.flow import Flow
    from lightning_modules.gan.adversarial import AdversarialModel
    from lightning_modules.model import Samples
    from lightning_modules.vae.vae import VAE


def measuring() -> torch.Generator:
    """The generator of a measurement on a laboratory, always the same: another stream than that of the laboratory's test set, so that the
    model's draws are independent of it."""
    import torch

    return torch.Generator().manual_seed(2_718_281_828)


def gap_to_entropy(model: Flow, data: Any, *, n: int = 50_000) -> dict[str, float]:
    """KL divergence from the truth in nats on n fresh points, which is the code length above the entropy, and its standard error."""
    from lightning_modules.metrics.likelihood import excess_nats

    x = data.test(n)["x"].to(model.device)
    mean, error = excess_nats(model.log_prob, data.log_prob, x)
    return {"excess_nats": mean, "excess_nats_error": error}


def bits_above_truth(model: Any, data: Any, *, n: int = 4096) -> dict[str, float]:
    """Code length above the exact one, in bits per dimension on n fresh examples, its standard error, and the exact code length."""
    import math

    from lightning_modules.metrics.likelihood import excess_nats

    x = data.test(n)["x"].to(model.device)
    bits = x[0].numel() * math.log(2)
    mean, error = excess_nats(model.log_prob, data.log_prob, x, batch=512)
    exact = -data.log_prob(x).mean().item()
    return {
        "excess_bits_per_dim": mean / bits,
        "excess_bits_per_dim_error": error / bits,
        "exact_bits_per_dim": exact / bits,
    }


def bound_above_entropy(model: VAE, data: Any, *, n: int = 10_000, k: int = 200) -> dict[str, float]:
    """KL divergence from the truth in nats on n fresh points, from above: by the bound of k draws, its standard error, and by the ELBO."""
    from functools import partial

    from lightning_modules.metrics.likelihood import excess_nats

    x, rng = data.test(n)["x"].to(model.device), measuring()
    mean, error = excess_nats(partial(model.log_prob, k=k, rng=rng), data.log_prob, x, batch=1024)
    one, _ = excess_nats(partial(model.log_prob, rng=rng), data.log_prob, x)
    return {"excess_nats": mean, "excess_nats_error": error, "elbo_excess_nats": one}


def bits_of_digits(model: Flow, data: Data) -> dict[str, float]:
    """Code length of held-out digits, by 10 draws of the noise each, and its standard error."""
    import torch

    x, rng = data.test()["x"].to(model.device), torch.Generator().manual_seed(0)
    bits = torch.stack([model.bits_per_dim(x, rng=rng) for _ in range(10)]).mean(0)
    return {"bits_per_dim": bits.mean().item(), "bits_per_dim_error": (bits.std() / len(bits) ** 0.5).item()}


def bits_of_images(model: Flow, data: Data) -> dict[str, float]:
    """Code length of the first 2,048 held-out images, by one draw of the noise each, and its standard error."""
    import torch

    rng = torch.Generator().manual_seed(0)
    parts = data.test(2048)["x"].split(128)
    bits = torch.cat([model.bits_per_dim(part.to(model.device), rng=rng) for part in parts])
    return {"bits_per_dim": bits.mean().item(), "bits_per_dim_error": (bits.std() / len(bits) ** 0.5).item()}


def frechet_to_held_out(drawn: Tensor, data: Data, n: int | None = None) -> float:
    """The Frechet distance of pixels from samples to held-out images, over that from as many training images: 1 is the best.

    Both are means over parts as large as the held-out part, because the distance of a small part is larger. Copies of training
    images reach 1 and no less, so that copying does not beat learning.

    Args:
        drawn: samples [N, *D], N a multiple of the number of held-out images.
        data: gives both kinds of images.
        n: compare with the first n held-out images and the first 4 n training images; None: with all.
    """
    from lightning_modules.metrics.gaussian import frechet_of, moments

    real = data.test(n)["x"]
    target, size = moments(real), len(real)

    def distance(x: Tensor) -> float:
        parts = [part for part in x.cpu().split(size) if len(part) == size]
        return sum(frechet_of(part, target) for part in parts) / len(parts)

    return distance(drawn) / distance(data.seen(None if n is None else 4 * n)["x"])


def exact_bits_of_digits(model: Discrete, data: Data) -> dict[str, float]:
    """Exact bits per pixel of held-out digits, and the distance of samples to these, see `frechet_to_held_out`."""
    import torch

    real = data.test()["x"].to(model.device)
    drawn = model.sample(3 * len(real), rng=torch.Generator().manual_seed(0))
    return {
        "bits_per_dim": model.bits_per_dim(real).mean().item(),
        "frechet_held_out": frechet_to_held_out(drawn, data),
    }


def exact_bits_of_images(model: Discrete, data: Data) -> dict[str, float]:
    """Exact code length of the held-out images in bits per dimension."""
    x = data.test()["x"]
    bits = sum(model.bits_per_dim(part.to(model.device)).sum().item() for part in x.split(100))
    return {"bits_per_dim": bits / len(x)}


def modes_found(model: AdversarialModel, data: Density2D) -> dict[str, float]:
    """`mixture_scores` of 10,000 samples: modes hit and full, share near one; W2 of 1,024 of them and its floor, and MMD."""
    from lightning_modules.metrics.samples import mixture_scores

    drawn = model.sample(10_000, rng=measuring()).cpu()
    truth, other = data.test(2048)["x"].chunk(2)
    mixture: Any = data.density
    return mixture_scores(drawn, truth, other, mixture.mean.float(), mixture.cov[0, 0, 0].sqrt().item())


def likeness(model: Samples, data: Data, *, n: int = 2048) -> dict[str, float]:
    """Sliced Wasserstein distance of up to n samples to as many held-out examples; of images, `--features` adds FID or the like."""
    import torch

    from lightning_modules.metrics.samples import sliced_wasserstein

    rng, held = torch.Generator().manual_seed(0), data.test(n)["x"].cpu()
    return {"sliced_w2": sliced_wasserstein(model.sample(len(held), rng=rng).cpu(), held, rng=rng)}


def held_out(model: Any, data: Data, *, n: int = 2048) -> dict[str, float]:
    """How well a density fits at most n held-out examples: their mean log-likelihood in nats; of grey levels, bits per dimension too."""
    import torch

    x = data.test(n)["x"].to(model.device)
    nats = torch.cat([model.log_prob(part) for part in x.split(128)])
    found = {"log_likelihood": nats.mean().item()}
    if len(nats) > 1:  # one example has no deviation
        found["log_likelihood_error"] = (nats.std() / len(nats) ** 0.5).item()
    if data.levels:
        found["bits_per_dim"] = torch.cat([model.bits_per_dim(part) for part in x.split(128)]).mean().item()
    return found
