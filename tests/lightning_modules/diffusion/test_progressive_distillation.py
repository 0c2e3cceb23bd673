"""Progressive distillation: the target on a Gaussian, the student's levels, and that a student's draws are its teacher's."""

import pytest
import torch
from torch import nn

from lightning_modules.conditions import UNCONDITIONAL
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.models.progressive_distillation import Both, diffusion, student_of, two_steps
from lightning_modules.diffusion.samplers.ddim import ddim
from lightning_modules.draws import Draws
from lightning_modules.nets.mlp import ResidualMLP

DOUBLE = torch.float64
V = 0.3


def exact(y, s):
    return V / (V + s[:, None] ** 2) * y


def gain(s, r):
    """Of a DDIM step."""
    return (V + s * r) / (V + s**2)


def test_times_and_levels_are_inverse_and_reach_the_ends():
    t = torch.linspace(0, 1, 9, dtype=DOUBLE)
    torch.testing.assert_close(schedules.from_cosine_time(schedules.cosine_time(t)), t)
    ends = schedules.cosine_time(torch.tensor([0.0, 1.0], dtype=DOUBLE)).log() * -2
    torch.testing.assert_close(ends, torch.tensor([20.0, -20.0], dtype=DOUBLE))
    grid = schedules.cosine_grid(4)
    assert grid[-1] == 0 and len(grid) == 5 and (grid.diff() < 0).all()


@pytest.mark.parametrize("i", [1, 2, 3])
def test_the_target_has_the_slope_of_two_steps(i):
    """(g - r / s) / (1 - r / s), where g is the product of the gains of the teacher's two steps; to 1e-10."""
    s, mid, r = (schedules.cosine_time(torch.tensor(t / 8, dtype=DOUBLE)).item() for t in (2 * i, 2 * i - 1, 2 * i - 2))
    if i == 1:
        r = 0.0
    y, sigma = torch.tensor([[1.7]], dtype=DOUBLE), torch.tensor([s], dtype=DOUBLE)
    g = gain(s, mid) * (gain(mid, r) if r else V / (V + mid**2))
    expected = (g - r / s) / (1 - r / s) * y
    torch.testing.assert_close(two_steps(exact, 4)(y, y, sigma, y), expected, rtol=1e-10, atol=0)


def test_the_best_student_is_not_the_posterior_mean():
    """v = 0.3, s = 3, r = 1 by way of 2: 0.04351, between the Bayes denoiser's 0.03226 and the exact flow's 0.06082."""
    s, mid, r = 3.0, 2.0, 1.0
    slopes = [
        (g - r / s) / (1 - r / s) for g in (gain(s, mid) * gain(mid, r), gain(s, r), ((V + r**2) / (V + s**2)) ** 0.5)
    ]
    assert slopes == pytest.approx([0.04351, 0.03226, 0.06082], abs=1e-5)


def test_a_student_learns_at_the_levels_of_its_own_steps():
    model = student_of(diffusion(ResidualMLP((1,)), (1,), steps=8), ResidualMLP((1,)), steps=4)
    levels = model.learn.levels(torch.linspace(0, 0.999, 8))
    torch.testing.assert_close(levels.unique(), schedules.cosine_grid(4)[:-1].flip(0))


class Linear(nn.Module):
    """The network of `preconditioning.clean` whose denoiser is a(s) y, for a table of levels and slopes."""

    def __init__(self, levels, slopes):
        super().__init__()
        self.levels, self.slopes, self.anchor = levels, slopes, nn.Parameter(torch.zeros(1, dtype=DOUBLE))

    def forward(self, x, level, cond):
        s = level.exp()
        a = self.slopes[(self.levels[None] - s[:, None]).abs().argmin(1)]
        return a[:, None] * x * (1 + s[:, None] ** 2).sqrt() + self.anchor


def test_the_best_students_draws_are_those_of_its_teacher_after_two_halvings():
    """8 steps of the exact denoiser, then 4 and 2 of students at the optimum of their loss, found by regression on their targets."""
    y = torch.randn(64, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    teacher, start = exact, schedules.cosine_grid(8)[0]
    expected = ddim(exact, start * y, schedules.cosine_grid(8))
    for steps in (4, 2):
        target, levels = two_steps(teacher, steps), schedules.cosine_grid(steps)[:-1]
        slopes = torch.stack([target(y, y, s.expand(64), y)[0, 0] / y[0, 0] for s in levels])
        model = diffusion(Linear(levels, slopes), (1,), predict="clean", steps=steps, student=True).double()
        teacher = model.denoiser()
        torch.testing.assert_close(ddim(teacher, start * y, schedules.cosine_grid(steps)), expected)


def test_the_loss_is_the_error_of_x0_by_the_truncated_ratio(seeded):
    net = ResidualMLP((3,), width=16, depth=1)
    nn.init.normal_(net.leave.weight, std=0.3)
    model, x = diffusion(net, (3,)).double(), torch.randn(32, 3, dtype=DOUBLE)
    model.draws = Draws(1, 2)
    loss = model.losses({"x": x})["x0_mse"]
    again = Draws(1, 2)
    s = schedules.cosine_time(again.uniform(32).double())[:, None]
    n = again.normal(32, 3).double()
    alpha = (1 + s**2).rsqrt()
    at = alpha * x + s * alpha * n
    answer = alpha * at - s * alpha * net(at, s[:, 0].log())
    error = (answer - x).square().mean(1)
    noise = ((at - alpha * answer) / (s * alpha) - n).square().mean(1)
    torch.testing.assert_close(loss, torch.maximum(error, noise).mean(), rtol=1e-5, atol=0)


def test_a_network_that_answers_both_joins_them(seeded):
    """x_t = alpha x0 + sigma_t n; the estimate is alpha (x_t - sigma_t n) + sigma_t^2 x0: section 4."""
    raw = ResidualMLP((2,), width=16, depth=1, outputs=2)
    nn.init.normal_(raw.leave.weight)
    x, level = torch.randn(6, 2), torch.randn(6)
    s = level.exp()[:, None]
    alpha, sigma_t = (1 + s**2).rsqrt(), s * (1 + s**2).rsqrt()
    x0, n = raw(x, level).chunk(2, 1)
    torch.testing.assert_close(Both(raw)(x, level, UNCONDITIONAL), alpha * (x - sigma_t * n) + sigma_t**2 * x0)
