"""MeanFlow: the network learns the mean velocity of the flow between two times, and so draws in one step, without a teacher.

System: MeanFlow
Source: Geng et al. 2025, arXiv:2505.13447, the MeanFlow identity, algorithms 1 and 2; the pairs of times and the weight are those of
the authors' code (Gsunshine/py-meanflow, version 0 of the pairs).
Differs: no guidance; the squared norm in the weight is a mean over dimensions; a path starts at time 1 - 10^-4 (see `flow_matching`).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from lightning_modules.conditions import Cond, as_cond
from lightning_modules.diffusion import preconditioning, schedules, targets
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw
from lightning_modules.diffusion.models.flow_matching import EDGE, straight
from lightning_modules.diffusion.preconditioning import Denoiser, append_dims
from lightning_modules.diffusion.samplers import chain
from lightning_modules.model import Batch
from lightning_modules.optim import Adam, Optim


class MeanFlow(Denoising):
    """The mean velocity u(z, r, t) from time t to an earlier time r <= t of the flow whose states are z_t = (1 - t) x0 + t n.

    Where r = t it is the velocity itself, so that the model also is a denoiser, which every sampler can use. Its own sampler
    takes whole steps: z_r = z_t - (t - r) u(z_t, r, t).

    Args:
        net: see `denoising.Net`; it is given t as the level, and takes one number, t - r.
        shape: of an example.
        mean, std: of the logit of the times in training, a normal law.
        apart: share of the examples whose two times differ.
        power, floor: p and c of the weight (error + c)^-p.
        steps: of the sampler.
        bound_levels: levels of the bound on the log likelihood.
        optim: of the network.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: tuple[int, ...],
        *,
        mean: float = -2.0,
        std: float = 2.0,
        apart: float = 0.75,
        power: float = 0.75,
        floor: float = 1e-3,
        steps: int = 1,
        bound_levels: int = 256,
        optim: Optim = Adam(6e-4),  # frozen
    ) -> None:
        super().__init__(
            net,
            shape,
            level_input=schedules.flow_time,
            precondition=preconditioning.flow,
            draw=Draw(sampler=self.jump, grid=straight, steps=steps, data_std=0.0),
            bound=Bound(levels=schedules.karras(bound_levels, 0.002, 80.0)[:-1].flip(0)),
            optim=optim,
        )
        self.levels = partial(schedules.log_normal, mean=mean, std=std)
        self.apart, self.power, self.floor = apart, power, floor

    def mean_velocity(self, z: Tensor, r: Tensor, t: Tensor) -> Tensor:
        """u [B, *D] at z [B, *D], from times t [B] to r [B]."""
        return self.net(z, t, Cond(numbers=(t - r)[:, None]))

    def denoiser(self, cond: Tensor | Cond | None = None) -> Denoiser:
        """D(y, sigma) = z - t u(z, t, t), where z = (1 - t) y and sigma = t / (1 - t).

        Raises:
            ValueError: conditions are given.
        """
        if as_cond(cond).size is not None:
            raise ValueError("A MeanFlow model takes no conditions: leave them out.")

        def velocity(z: Tensor, sigma: Tensor) -> Tensor:
            t = schedules.flow_time(sigma)
            return self.mean_velocity(z, t, t)

        return preconditioning.denoiser(velocity, self.precondition)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted squared distance of u to v - (t - r) du/dt along the path, which is held fixed; algorithm 1."""
        x0 = self.fitting(batch["x"])
        r, t = self.times(len(x0), x0)
        n = self.draws.normal(*x0.shape, device=x0.device).to(x0)
        wide_t, v = append_dims(t, x0), n - x0
        z = (1 - wide_t) * x0 + wide_t * n
        with forward_ad.dual_level():
            along = forward_ad.make_dual(z, v), r, forward_ad.make_dual(t, torch.ones_like(t))
            u, change = forward_ad.unpack_dual(self.mean_velocity(*along))
        goal = (v - append_dims(t - r, x0) * change).detach()
        error = targets.squared(u, goal)
        return {"mean_velocity": (error / (error.detach() + self.floor) ** self.power).mean()}

    def times(self, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Earlier and later times [n] of a batch; equal for a share 1 - `apart` of the examples."""
        u = self.draws.uniform(n, 3, device=like.device).to(like)
        one, other = (schedules.flow_time(self.levels(u[:, k])).clamp(EDGE, 1 - EDGE) for k in (0, 1))
        later = torch.maximum(one, other)
        return torch.where(u[:, 2] < self.apart, torch.minimum(one, other), later), later

    def jump(self, denoise: Denoiser, y: Tensor, grid: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        """The sampler of algorithm 2, in one or several steps; it is deterministic, and asks the model itself, not `denoise`."""
        z = y / (1 + grid[0].item())
        for sigma, sigma_next in chain.pairs(grid):
            t, r = (z.new_full((len(z),), schedules.flow_time(level).item()) for level in (sigma, sigma_next))
            z = z - append_dims(t - r, z) * self.mean_velocity(z, r, t)
        return z
