"""Adam over one vector is torch's Adam, and its state is torch's state."""

import subprocess
import sys

import pytest
import torch

from ray_jobs.rl.adam import Adam


def pair(eps):
    torch.manual_seed(0)
    start = torch.randn(500, dtype=torch.float64)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    return ours, theirs, Adam(ours, 3e-2, eps=eps), torch.optim.Adam([theirs], 3e-2, eps=eps)


def move(*pairs, seed):
    gradient = torch.randn(500, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for parameter, optimizer in pairs:
        parameter.grad = gradient.clone()
        optimizer.step()


@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_it_takes_torchs_steps(eps):
    ours, theirs, mine, reference = pair(eps)
    for k in range(30):
        mine.param_groups[0]["lr"] = reference.param_groups[0]["lr"] = 3e-2 / (1 + k)
        move((ours, mine), (theirs, reference), seed=k)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_its_state_is_torchs_and_comes_back():
    ours, theirs, mine, reference = pair(1e-8)
    for k in range(3):
        move((ours, mine), (theirs, reference), seed=k)
    again = torch.nn.Parameter(ours.detach().clone())
    resumed = Adam(again, 1.0)
    resumed.load_state_dict(reference.state_dict())
    move((ours, mine), (again, resumed), seed=9)
    torch.testing.assert_close(again, ours, rtol=1e-12, atol=1e-12)
    assert mine.state_dict()["param_groups"][0]["lr"] == resumed.param_groups[0]["lr"] == 3e-2


def test_it_imports_no_compiler():
    code = "import sys, torch\nfrom ray_jobs.rl.adam import Adam\np = torch.zeros(2); p.grad = torch.ones(2)\nAdam(p, 1.0).step()"
    code += "\nassert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
