"""Natural gradients: pure functions of flat vectors [P], and of a linear layer's Kronecker factors.

What has to be averaged over learners takes `mean`, which gives every learner the same bits, so that all of them take the same turns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""v [P] -> M v [P], for a symmetric and positive definite M that nobody writes out."""


def alone(x: Tensor) -> Tensor:
    """The mean over one learner."""
    return x


def conjugate_gradient(product: Product, b: Tensor, iterations: int = 10, tolerance: float = 1e-10) -> Tensor:
    """x [P] with M x = b, nearly: until |b - M x|^2 <= tolerance |b|^2, or for so many products. b = 0 takes none.

    Source: Hestenes & Stiefel 1952, doi:10.6028/jres.049.044, section 3.
    """
    x, residual, path = torch.zeros_like(b), b.clone(), b.clone()
    square = enough = residual.dot(residual)
    for _ in range(iterations):
        if square <= tolerance * enough:
            break
        image = product(path)
        rate = square / path.dot(image)
        x.addcmul_(rate, path)
        residual.addcmul_(rate, image, value=-1)
        before, square = square, residual.dot(residual)
        path.mul_(square / before).add_(residual)
    return x


def fisher_product(
    kl: Tensor, parameters: Sequence[Tensor], damping: float = 0.0, mean: Callable[[Tensor], Tensor] = alone
) -> Product:
    """v [P] -> (F + damping I) v, by differentiating twice; P are the parameters' elements in order.

    `kl` is the scalar mean of KL(old || policy) at policy = old, with gradients through the policy alone: its Hessian there is the
    Fisher matrix. Its graph is kept as long as the product. The network must be one that can be differentiated twice.

    Source: Schulman et al. 2015, arXiv:1502.05477, appendix C.1; Pearlmutter 1994, doi:10.1162/neco.1994.6.1.147.
    """
    slope = flat(torch.autograd.grad(kl, parameters, create_graph=True, materialize_grads=True))

    def product(v: Tensor) -> Tensor:
        twice = torch.autograd.grad(slope, parameters, v, retain_graph=True, materialize_grads=True)
        return torch.add(mean(flat(twice)), v, alpha=damping)

    return product


def flat(parts: Sequence[Tensor]) -> Tensor:
    """[P], all elements in order."""
    return torch.cat([x.reshape(-1) for x in parts])


def natural_step(
    product: Product, gradient: Tensor, max_kl: float, iterations: int = 10, tolerance: float = 1e-10
) -> Tensor:
    """The step s [P] that gains most to first order, gradient . s, among those with s M s / 2 = max_kl. No gradient, no step.

    With M the Fisher matrix that is how far the policy moves, in nats. Given a loss's gradient, the step is to be subtracted.

    Source: Schulman et al. 2015, arXiv:1502.05477, appendix C.
    """
    path = conjugate_gradient(product, gradient, iterations, tolerance)
    return path * trust_scale(path.dot(product(path)), float("inf"), max_kl)


def trust_scale(square: Tensor, most: float, max_kl: float) -> Tensor:
    """By how much to scale a step s, `most` at most, for s F s / 2 = max_kl; `square` is s F s []. A step that moves nothing gets 0.

    Source: Wu et al. 2017, arXiv:1708.05144, section 3.2.
    """
    return torch.where(square > 0, (2 * max_kl / square).sqrt().clamp(max=most), torch.zeros_like(square))


def line_search(
    evaluate: Callable[[float], tuple[Tensor, Tensor]],
    max_kl: float,
    *,
    expected: Tensor | float = 0.0,
    accept: float = 0.0,
    shrink: float = 0.5,
    attempts: int = 10,
    mean: Callable[[Tensor], Tensor] = alone,
) -> float:
    """The largest share of a step, 1, shrink, shrink^2 ..., that improves the surrogate and stays within max_kl; 0 if none does.

    Args:
        evaluate: share -> how much better the surrogate is after that share of the step than before it, and the mean KL [] there.
        max_kl: largest mean KL, in nats.
        expected: improvement that the gradient promises for the whole step.
        accept: least part of the promise that must come true, 0 to 1; more than nothing must in any case.
        shrink: what each attempt is to the one before, between 0 and 1.
        attempts: how many there are.
        mean: over learners, of both numbers.

    Source: Schulman et al. 2015, arXiv:1502.05477, appendix C; Armijo 1966, doi:10.2140/pjm.1966.16.1.

    Raises:
        ValueError: `shrink` is not between 0 and 1.
    """
    if not 0 < shrink < 1:
        raise ValueError(f"shrink must lie between 0 and 1, and is {shrink}.")
    promised = accept * float(expected)
    for k in range(attempts):
        share = shrink**k
        better, kl = mean(torch.stack(evaluate(share))).tolist()
        if better > 0 and better >= promised * share and kl <= max_kl:  # never so where either is not a number
            return share
    return 0.0


def kronecker_factors(inputs: Tensor, slopes: Tensor, bias: bool = True) -> tuple[Tensor, Tensor]:
    """A linear layer's A = E[a a'] [in(+1), in(+1)] and G = E[g g'] [out, out]: its Fisher block is about G (x) A.

    Rows are samples: the layer's inputs [N, in], to which a 1 is added where it has a bias, and the derivatives [N, out] of log p(y | x)
    by its outputs, with y drawn from the model itself. Blocks are over weights with the bias as last column, [out, in+1], row by row;
    exact where a and g are independent.

    Source: Martens & Grosse 2015, arXiv:1503.05671, section 3.
    """
    a = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1) if bias else inputs
    return a.t() @ a / len(a), slopes.t() @ slopes / len(slopes)


def inverses(A: Tensor, G: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """The inverses of A + pi sqrt(damping) I and G + sqrt(damping) / pi I, with pi^2 the ratio of their mean eigenvalues.

    The Kronecker product of the two sums is G (x) A + damping I, and two terms more.

    Source: Martens & Grosse 2015, arXiv:1503.05671, section 6.3, with the trace norm.

    Raises:
        ValueError: damping is not positive.
    """
    if damping <= 0:
        raise ValueError(f"The damping must be above 0, and is {damping}.")
    a, g = A.diagonal().mean(), G.diagonal().mean()
    pi = torch.where((a > 0) & (g > 0), (a / g).sqrt(), torch.ones_like(a))
    parts = (A, math.sqrt(damping) * pi), (G, math.sqrt(damping) / pi)
    left, right = (torch.cholesky_inverse(torch.linalg.cholesky(M + r * eye(M))) for M, r in parts)
    return left, right


def eye(M: Tensor) -> Tensor:
    """The identity that fits a square matrix."""
    return torch.eye(len(M), dtype=M.dtype, device=M.device)


def precondition(grad: Tensor, A: Tensor, G: Tensor, damping: float) -> Tensor:
    """A layer's natural gradient [out, in+1] from its gradient, whose last column is the bias's: the damped (G (x) A)^-1 times it.

    Source: Martens & Grosse 2015, arXiv:1503.05671, section 4.2; Wu et al. 2017, arXiv:1708.05144, section 2.2.

    Raises:
        ValueError: damping is not positive.
    """
    left, right = inverses(A, G, damping)
    return right @ grad @ left


def blended(old: Sequence[Tensor], new: Sequence[Tensor], step: int, decay: float) -> None:
    """Take the new estimates into running ones, in place, at the step-th time of asking, from 1: a plain mean until 1 / (1 - decay).

    Source: Martens & Grosse 2015, arXiv:1503.05671, section 5.
    """
    torch._foreach_lerp_(list(old), list(new), 1 - min(1 - 1 / step, decay))
