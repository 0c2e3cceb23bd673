"""Distances between two samples, without a model of either: modes, exact Wasserstein distances, kernels, Inception's features."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

INCEPTION_HASH = "6726825d"
"""First digits of the SHA-256 of torch-fidelity's weights, `pt_inception-2015-12-05-6726825d.pth`."""


def modes(x: Tensor, mean: Tensor, std: float, *, reach: float = 3.0, due: float = 0.25) -> tuple[int, float]:
    """(modes hit, share near modes) of examples [N, D] against equal round Gaussians with means [K, D].

    An example is near the nearest mode within `reach` deviations of it; within three it is of high quality. A mode is hit
    if at least `due` of the examples that should be near it are.

    Source: Srivastava et al. 2017, arXiv:1705.07761, section 5.1.
    Differs: there one example of high quality hits a mode.
    """
    gap, nearest = torch.cdist(x.to(mean), mean).min(1)
    near = gap <= reach * std
    should = torch.special.gammainc(torch.tensor(mean.shape[1] / 2), torch.tensor(reach**2 / 2)).item()
    count = torch.bincount(nearest[near], minlength=len(mean))
    hit = (count >= max(1.0, due * should * len(x) / len(mean))).sum().item()
    return int(hit), near.double().mean().item()


def wasserstein(x: Tensor, y: Tensor, p: int = 2) -> float:
    """The exact p-Wasserstein distance between equally many examples [N, *D] and [N, *D]: a linear assignment, O(N^3).

    Raises:
        ValueError: there are not equally many.
    """
    from scipy.optimize import linear_sum_assignment

    if len(x) != len(y):
        raise ValueError(f"The exact distance needs equally many examples, and was given {len(x)} and {len(y)}.")
    cost = torch.cdist(x.flatten(1).double(), y.flatten(1).double()).pow(p).cpu().numpy()
    return float(cost[linear_sum_assignment(cost)].mean() ** (1 / p))


def mmd(x: Tensor, y: Tensor, *, width: float) -> float:
    """The unbiased squared maximum mean discrepancy of [N, *D] and [M, *D] under exp(-|x - y|^2 / (2 width^2)).

    Source: Gretton et al. 2012, eq. 3.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (-torch.cdist(a, b).square() / (2 * width**2)).exp()

    def within(a: Tensor) -> Tensor:
        k = kernel(a, a)
        return (k.sum() - k.trace()) / (len(a) * (len(a) - 1))

    return (within(x) + within(y) - 2 * kernel(x, y).mean()).item()


def parzen(x: Tensor, drawn: Tensor, *, width: float) -> float:
    """Mean log density in nats of examples [N, *D] under Gaussians of deviation `width` around samples [M, *D].

    Source: Goodfellow et al. 2014, arXiv:1406.2661, section 5.
    """
    x, drawn = x.flatten(1).double(), drawn.flatten(1).double()
    scale = math.log(len(drawn)) + 0.5 * x.shape[1] * math.log(2 * math.pi * width**2)
    logs = [(-torch.cdist(part, drawn).square() / (2 * width**2)).logsumexp(1) for part in x.split(256)]
    return (torch.cat(logs).mean() - scale).item()


def inception(weights: str | Path) -> Path:
    """The file of Inception's weights, checked.

    Raises:
        ValueError: it is missing or another file.
    """
    import hashlib

    path = Path(weights)
    if not path.is_file():
        raise ValueError(f"There is no file {path} of Inception's weights: give pt_inception-2015-12-05-6726825d.pth.")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(INCEPTION_HASH):
        raise ValueError(f"{path} is not Inception's weights: its SHA-256 is {found[:8]}..., not {INCEPTION_HASH}...")
    return path


def extractor(weights: str | Path, feature: str) -> nn.Module:
    """Inception v3 up to a feature, '2048' or 'logits_unbiased', from a checked local file.

    Raises:
        ValueError: the file cannot be used, or torch-fidelity is missing.
    """
    path = inception(weights)
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3

        return NoTrainInceptionV3("inception-v3-compat", [feature], str(path))
    except ImportError as error:
        raise ValueError("FID and IS need Inception: pip install torch-fidelity torchmetrics.") from error


def bytes_of(x: Tensor) -> Tensor:
    """Images [N, 1 or 3, H, W] in [-1, 1] -> [N, 3, H, W], uint8."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)


def fid(drawn: Tensor, real: Tensor, net: nn.Module, *, batch: int = 64) -> float:
    """Frechet Inception distance of images [N, 1 or 3, H, W] and [M, ...] in [-1, 1].

    Args:
        net: uint8 images -> features, such as `extractor(weights, '2048')`.

    Source: Heusel et al. 2017, arXiv:1706.08500, eq. 6.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=net, input_img_size=(3, *drawn.shape[2:])).to(drawn.device)
    metric.set_dtype(torch.float64)
    for images, is_real in ((real, True), (drawn, False)):
        for part in images.split(batch):
            metric.update(bytes_of(part), real=is_real)
    return metric.compute().item()


def inception_score(drawn: Tensor, net: nn.Module, *, splits: int = 10, batch: int = 64) -> float:
    """Inception score of images [N, 1 or 3, H, W] in [-1, 1], the mean over splits.

    Args:
        net: uint8 images -> logits, such as `extractor(weights, 'logits_unbiased')`.

    Source: Salimans et al. 2016, arXiv:1606.03498, section 4.
    """
    from torchmetrics.image.inception import InceptionScore

    metric = InceptionScore(feature=net, splits=splits).to(drawn.device)
    for part in drawn.split(batch):
        metric.update(bytes_of(part))
    return metric.compute()[0].item()


def image_scores(drawn: Tensor, real: Tensor, weights: str) -> dict[str, float]:
    """FID and IS of images; nothing where `weights` is ''."""
    if not weights:
        return {}
    return {
        "fid": fid(drawn, real, extractor(weights, "2048").to(drawn.device)),
        "inception_score": inception_score(drawn, extractor(weights, "logits_unbiased").to(drawn.device)),
    }


def mixture_scores(drawn: Tensor, truth: Tensor, other: Tensor, mean: Tensor, std: float) -> dict[str, float]:
    """How near samples [N, D] come to a mixture of equal round modes [K, D].

    Where the modes are near each other even noise hits them, but not half of the core of any: `modes_full` counts these.

    Args:
        truth, other: two independent true samples [M, D], M <= N, for distances and their floor.
    """
    n = len(truth)
    hit, good = modes(drawn, mean, std)
    distance, floor = wasserstein(drawn[:n], truth), wasserstein(other, truth)
    return {
        "modes_hit": float(hit),
        "modes_full": float(modes(drawn, mean, std, reach=1.0, due=0.5)[0]),
        "high_quality": good,
        "w2": distance,
        "w2_floor": floor,
        "w2_ratio": distance / floor,
        "mmd": mmd(drawn[:n], truth, width=std),
    }
