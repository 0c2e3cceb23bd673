"""Scores of samples by their features: the kernel distance, precision and recall, and the score by classes."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1000
"""Rows of a distance matrix that are computed at once, and samples of each estimate of the kernel distance."""


def kernel_distance(
    x: Tensor, y: Tensor, *, size: int = BLOCK, rng: torch.Generator | None = None
) -> tuple[float, float]:
    """KID: the squared maximum mean discrepancy of features [N, D] and [M, D] with the kernel (x.y / D + 1)^3, and its standard error.

    The mean of unbiased estimates over disjoint subsets of `size` of either; NaN is the error of one subset alone.

    Args:
        rng: on the CPU; which features are in a subset.

    Source: Binkowski et al. 2018, arXiv:1801.01401, section 4.
    Differs: the subsets are disjoint, so that their spread gives the standard error; there they are drawn again each time.

    Raises:
        ValueError: there are fewer than two of either.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"The kernel distance needs at least 2 samples of either kind, not {len(x)} and {len(y)}.")
    size = min(size, len(x), len(y))
    count = min(len(x), len(y)) // size
    parts = [z[torch.randperm(len(z), generator=rng)[: count * size]].double().split(size) for z in (x, y)]
    found = torch.tensor([_discrepancy(a, b) for a, b in zip(*parts, strict=True)])
    return found.mean().item(), (found.std() / count**0.5).item() if count > 1 else float("nan")


def _discrepancy(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate for features [S, D] and [S, D]."""
    n = len(x)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    within = [(k.sum() - k.trace()) / (n * (n - 1)) for k in (kernel(x, x), kernel(y, y))]
    return (within[0] + within[1] - 2 * kernel(x, y).mean()).item()


def precision_recall(drawn: Tensor, real: Tensor, *, k: int = 3) -> tuple[float, float]:
    """The share of samples [N, D] that lie among real features [M, D], and the share of real ones that lie among the samples.

    To lie among others is to be as near to one of them as the k-th nearest of these is to it.

    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991, section 2, eq. 1 and 2; k = 3, as in its experiments.

    Raises:
        ValueError: there are at most k of either.
    """
    if min(len(drawn), len(real)) <= k:
        raise ValueError(
            f"Precision and recall need more than {k} samples of either kind, not {len(drawn)} and {len(real)}."
        )
    return _share_among(drawn, real, k), _share_among(real, drawn, k)


def _share_among(x: Tensor, others: Tensor, k: int) -> float:
    """The share of x [N, D] within the balls around `others` [M, D]; the difference of what is equal rounds to 1e-6 of its square."""
    parts = others.split(BLOCK)
    reach = torch.cat([_squares(part, others).kthvalue(k + 1).values for part in parts])  # the nearest is itself
    reach = reach + 1e-6 * others.square().sum(1)
    inside = [(_squares(part, others) <= reach).any(1) for part in x.split(BLOCK)]
    return torch.cat(inside).double().mean().item()


def _squares(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances [N, M]; in this way, for `torch.cdist` takes a root that is not needed."""
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp(min=0)


def class_score(logits: Tensor, *, splits: int = 10) -> float:
    """exp of the mean divergence of p(class | image) from p(class), of logits [N, K]: the mean over splits.

    By Inception's logits this is the Inception score.

    Source: Salimans et al. 2016, arXiv:1606.03498, section 4.
    """
    log_p = logits.double().log_softmax(1)
    scores = []
    for part in log_p.tensor_split(min(splits, len(log_p))):
        log_mean = part.logsumexp(0) - torch.tensor(float(len(part))).log()
        scores.append((part.exp() * (part - log_mean)).sum(1).mean().exp())
    return torch.stack(scores).mean().item()
