"""Progressive distillation: a student learns to take two DDIM steps of its teacher in one, then becomes the teacher of the next.

System: Progressive distillation
Source: Salimans & Ho 2022, arXiv:2202.00512, algorithm 2, section 4, appendices D and G.
Differs: the learning rate of a student does not fall to 0 unless its optimiser says so; the network is given the logarithm of the level.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.conditions import Cond
from lightning_modules.diffusion import preconditioning, schedules, weighting
from lightning_modules.diffusion.denoising import Denoising, Draw, Learn
from lightning_modules.diffusion.preconditioning import Denoiser, append_dims
from lightning_modules.diffusion.samplers.ddim import ddim
from lightning_modules.diffusion.targets import Target, clean
from lightning_modules.optim import Adam, Optim

Predict = Literal["clean", "noise", "velocity", "both"]
"""What the network predicts: x0, the noise, v, or x0 and the noise (a network of twice the channels, section 4)."""


class Both(nn.Module):
    """A network that answers x0 and the noise, joined to one estimate of x0; section 4.

    In units of y: D = (sigma^2 F_x + y - sigma F_n) / (1 + sigma^2).

    Args:
        net: of twice the channels of an example; it is given log sigma.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, level: Tensor, cond: Cond) -> Tensor:
        """The estimate of x0 for the input x = y / sqrt(1 + sigma^2)."""
        sigma = append_dims(level.exp(), x)
        x0, n = self.net(x, level, cond).chunk(2, 1)
        return (sigma**2 * x0 + x * (1 + sigma**2).sqrt() - sigma * n) / (1 + sigma**2)


def diffusion(
    net: nn.Module,
    shape: tuple[int, ...],
    *,
    predict: Predict = "velocity",
    target: Target = clean,
    steps: int = 1024,
    student: bool = False,
    optim: Optim = Adam(2e-4),  # frozen
) -> Denoising:
    """The first teacher, or a student.

    Args:
        net: see `denoising.Net`; for `predict` 'both' a `Both`.
        shape: of an example.
        predict: what the network predicts.
        target: what the denoiser is to answer: x0, or `two_steps` of a teacher.
        steps: of the sampler.
        student: whether it learns at the levels of its own steps alone, not at all times.
        optim: of the network.
    """
    kinds = {
        "clean": preconditioning.clean,
        "noise": preconditioning.noise,
        "velocity": preconditioning.velocity,
        "both": preconditioning.clean,
    }

    def levels(u: Tensor) -> Tensor:
        return schedules.cosine_time(((u.double() * steps).floor() + 1) / steps if student else u.double())

    return Denoising(
        net,
        shape,
        level_input=torch.log,
        precondition=kinds[predict],
        learn=Learn(levels=levels, weight=weighting.truncated_snr, target=target, name="x0_mse"),
        draw=Draw(sampler=ddim, grid=schedules.cosine_grid, steps=steps, data_std=1.0),
        optim=optim,
    )


def two_steps(teacher: Denoiser, steps: int) -> Target:
    """The x0 at which one DDIM step of a student of `steps` steps arrives where two of the teacher do; algorithm 2.

    From y_s by way of the level in the middle of the student's step to y_r; then x = (y_r - (r / s) y_s) / (1 - r / s).
    """

    def target(x0: Tensor, y: Tensor, sigma: Tensor, n: Tensor) -> Tensor:
        t = schedules.from_cosine_time(sigma.double())
        last = (t - 1 / steps) < 0.25 / steps  # the step that ends at the data
        mid = schedules.cosine_time(t - 0.5 / steps).to(y)
        end = torch.where(last, torch.zeros_like(t), schedules.cosine_time(t - 1 / steps)).to(y)
        with torch.no_grad():
            at = y
            for a, b in ((sigma, mid), (mid, end)):
                estimate = teacher(at, a)
                at = estimate + append_dims(b / a, y) * (at - estimate)
            share = append_dims(end / sigma, y)
            return (at - share * y) / (1 - share)

    return target


def student_of(teacher: Denoising, net: nn.Module, *, steps: int, predict: Predict = "velocity") -> Denoising:
    """A student that draws in half of its teacher's steps.

    Args:
        teacher: of 2 `steps` steps.
        net: with the teacher's weights at first.
        steps: of the student.
        predict: what the network predicts.
    """
    goal = two_steps(teacher.denoiser(), steps)
    return diffusion(net, teacher.shape, predict=predict, target=goal, steps=steps, student=True)
