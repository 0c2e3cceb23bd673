"""What every density script shares: exact densities, the training, and the one line that it prints. Needs nothing but torch.

All contenders have the same depth, width, batch, steps, optimiser and examples; their parameters are counted, for the layers differ in
detail.
"""

import argparse
import json
import math
import time
from collections.abc import Callable

import torch
from torch import nn

BATCH, STEPS, LR, WARMUP, CLIP = 256, 1500, 2e-3, 100, 1.0
DEPTH, WIDTH, BINS, BOUND = 6, 64, 8, 4.0
SPLINE_DEPTH = 3
WORK = ("maf", "realnvp", "nsf", "nsf_autoregressive")
POINTS = 20_000
LOG_2PI = math.log(2 * math.pi)


class Mixture:
    """Mixture of Gaussians in the plane, in float64, with `size` - 2 further independent normal dimensions, all rotated together.

    Args:
        mean: [K, 2].
        root: [K, 2, 2], Cholesky factors of the covariances.
        weight: [K], sums to 1.
        size: D.
    """

    def __init__(self, mean: torch.Tensor, root: torch.Tensor, weight: torch.Tensor, size: int = 2) -> None:
        self.mean, self.root, self.weight, self.size = mean, root, weight, size
        rng = torch.Generator().manual_seed(size)
        turn = torch.linalg.qr(torch.randn(size, size, generator=rng, dtype=torch.float64))[0]
        self.turn = turn if size > 2 else torch.eye(2, dtype=torch.float64)

    def draw(self, n: int, rng: torch.Generator) -> torch.Tensor:
        """Draw n samples [n, size]."""
        k = torch.multinomial(self.weight, n, replacement=True, generator=rng)
        z = torch.randn(n, self.size, generator=rng, dtype=torch.float64)
        plane = self.mean[k] + (self.root[k] @ z[:, :2, None])[:, :, 0]
        return torch.cat([plane, z[:, 2:]], 1) @ self.turn.T

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """Log density [n] in nats of x [n, size]."""
        straight = x.double() @ self.turn
        u = torch.linalg.solve_triangular(self.root, (straight[:, None, :2] - self.mean)[..., None], upper=False)[
            ..., 0
        ]
        logs = self.weight.log() - 0.5 * u.square().sum(2) - LOG_2PI - self.root.diagonal(dim1=1, dim2=2).log().sum(1)
        return logs.logsumexp(1) - 0.5 * (straight[:, 2:].square() + LOG_2PI).sum(1)


class Wave:
    """A normal number, and one of deviation 0.1 around a sine of it."""

    size = 2

    def draw(self, n: int, rng: torch.Generator) -> torch.Tensor:
        """Draw n samples [n, 2]."""
        z = torch.randn(n, 2, generator=rng, dtype=torch.float64)
        return torch.stack([0.8 * z[:, 0], 0.1 * z[:, 1] + 0.6 * (3.2 * z[:, 0]).sin()], 1)

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """Log density [n] in nats of x [n, 2]."""
        a, b = x.double().T
        first, second = a / 0.8, (b - 0.6 * (4 * a).sin()) / 0.1
        return -0.5 * (first.square() + second.square()) - LOG_2PI - math.log(0.8 * 0.1)


def around(arms: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions [arms, 2] of a circle, and the frames [arms, 2, 2] that they and their normals make."""
    angle = torch.arange(arms, dtype=torch.float64) * 2 * math.pi / arms
    out = torch.stack([angle.cos(), angle.sin()], 1)
    return out, torch.stack([out, torch.stack([-out[:, 1], out[:, 0]], 1)], 2)


def ring() -> Mixture:
    """Eight equal Gaussians on a circle."""
    out, _ = around(8)
    return Mixture(out, 0.1 * torch.eye(2, dtype=torch.float64).repeat(8, 1, 1), torch.full((8,), 1 / 8).double())


def pinwheel8() -> Mixture:
    """Five unequal Gaussians in the plane, rotated with six further dimensions."""
    out, frame = around(5)
    spread = torch.tensor([0.25, 0.06], dtype=torch.float64).square().diag()
    share = torch.arange(1, 6, dtype=torch.float64)
    return Mixture(0.8 * out, torch.linalg.cholesky(frame @ spread @ frame.mT), share / share.sum(), 8)


DENSITIES = {"ring": ring, "wave": Wave, "pinwheel8": pinwheel8}


def arguments() -> argparse.Namespace:
    """The script's options; its `truth` is the density."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=WORK)
    parser.add_argument("density", choices=DENSITIES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    args.truth = DENSITIES[args.density]()
    return args


def fit(model: nn.Module, log_prob: Callable[[torch.Tensor], torch.Tensor], args: argparse.Namespace) -> None:
    """Train by Adam, its step rising over the warm-up and falling to 0 by a cosine; print the gap to the entropy on fresh points."""
    truth, rng = args.truth, torch.Generator().manual_seed(args.seed)
    with torch.no_grad():
        log_prob(truth.draw(BATCH, rng).float())  # where a norm sets itself, it is by these
    adam = torch.optim.Adam(model.parameters(), LR, fused=True)

    def share(step: int) -> float:
        return min(1, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / args.steps)) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(adam, share)
    started = time.perf_counter()
    for _ in range(args.steps):
        adam.zero_grad(set_to_none=True)
        (-log_prob(truth.draw(BATCH, rng).float()).mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adam.step()
        schedule.step()
    seconds = time.perf_counter() - started
    model.eval()
    x = truth.draw(POINTS, torch.Generator().manual_seed(2**40))
    with torch.no_grad():
        ours = torch.cat([log_prob(part) for part in x.float().split(2000)])
    gap = truth.log_prob(x.float()) - ours.double()
    row = {"excess_nats": gap.mean().item(), "standard_error": (gap.std() / POINTS**0.5).item(), "train_s": seconds}
    weights = sum(p.numel() for p in model.parameters())
    print("\n" + json.dumps(row | {"parameters": weights, "steps": args.steps}), flush=True)
