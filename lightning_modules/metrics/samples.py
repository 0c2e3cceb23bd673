"""Distances between two samples, without a model of either: modes, Wasserstein distances, kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules import draws


def modes(x: Tensor, mean: Tensor, std: float, *, reach: float = 3.0, due: float = 0.25) -> tuple[int, float]:
    """(modes hit, share of examples near a mode) for examples [N, D] of a mixture of K equal round Gaussians.

    An example is near its nearest mode if it is within `reach` deviations of it; within three it is of high quality. A mode
    is hit if at least `due` times as many examples are near it as perfect samples would have there.

    Args:
        mean, std: means [K, D] of the Gaussians, and the deviation of all.

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
    """The unbiased squared maximum mean discrepancy between [N, *D] and [M, *D] with the kernel exp(-|x - y|^2 / (2 width^2)).

    Source: Gretton et al. 2012, eq. 3.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (-torch.cdist(a, b).square() / (2 * width**2)).exp()

    def within(a: Tensor) -> Tensor:
        k = kernel(a, a)
        return (k.sum() - k.trace()) / (len(a) * (len(a) - 1))

    return (within(x) + within(y) - 2 * kernel(x, y).mean()).item()


def mixture_scores(drawn: Tensor, truth: Tensor, other: Tensor, mean: Tensor, std: float) -> dict[str, float]:
    """Scores of samples [N, D] of a mixture of equal round Gaussians, by name.

    Where the modes are close to each other even uniform noise hits them. `modes_full` counts those that have at least half of
    the examples within one deviation that perfect samples would have, which noise does not reach.

    Args:
        truth, other: two independent true samples [M, D], M <= N, for distances and their floor.
        mean, std: as in `modes`.
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


def sliced_wasserstein(x: Tensor, y: Tensor, *, directions: int = 100, rng: torch.Generator | None = None) -> float:
    """Squared sliced 2-Wasserstein distance between examples [N, *D] and [N, *D], over random directions.

    Source: Bonneel et al. 2015, eq. 6.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    axes = draws.normal(x.shape[1], directions, rng=rng, dtype=torch.float64)
    axes = (axes / axes.norm(dim=0)).to(x.device)
    return ((x @ axes).sort(0).values - (y @ axes).sort(0).values).square().mean().item()
