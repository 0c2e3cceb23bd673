"""Adam and RMSProp over one vector are torch's, and their states are torch's states."""

import copy
import subprocess
import sys

import pytest
import torch

from ray_jobs.rl.optim import adam
from ray_jobs.rl.optim.adam import Adam, RMSProp

both = pytest.mark.parametrize(
    "kinds", [(Adam, torch.optim.Adam), (RMSProp, torch.optim.RMSprop)], ids=["Adam", "RMSProp"]
)


def pair(kinds, eps):
    torch.manual_seed(0)
    start = torch.randn(500, dtype=torch.float64)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    return ours, theirs, kinds[0](ours, 3e-2, eps=eps), kinds[1]([theirs], 3e-2, eps=eps)


def move(*pairs, seed):
    gradient = torch.randn(500, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for parameter, optimizer in pairs:
        parameter.grad = gradient.clone()
        optimizer.step()


@both
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_it_takes_torchs_steps(kinds, eps):
    ours, theirs, mine, reference = pair(kinds, eps)
    for k in range(30):
        mine.param_groups[0]["lr"] = reference.param_groups[0]["lr"] = 3e-2 / (1 + k)
        move((ours, mine), (theirs, reference), seed=k)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@both
def test_its_state_is_torchs_and_comes_back(kinds):
    """Torch continues from ours, and ours from torch's."""
    ours, theirs, mine, reference = pair(kinds, 1e-8)
    for k in range(3):
        move((ours, mine), (theirs, reference), seed=k)
    again = torch.nn.Parameter(ours.detach().clone())
    resumed = kinds[0](again, 1.0)
    resumed.load_state_dict(reference.state_dict())
    move((ours, mine), (again, resumed), seed=9)
    torch.testing.assert_close(again, ours, rtol=1e-12, atol=1e-12)
    theirs.data.copy_(ours.data)
    reference.state[theirs].update(copy.deepcopy(mine.state_dict()["state"][0]))
    move((ours, mine), (theirs, reference), seed=10)
    torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=1e-12)
    assert mine.state_dict()["param_groups"][0]["lr"] == resumed.param_groups[0]["lr"] == 3e-2


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_kernel_and_formula_agree(kind):
    """With small and with vanished gradients; float32 within a few units of its last digit."""
    torch.manual_seed(0)
    start = torch.randn(300, dtype=kind)
    parameters = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    kernel, formula = (Adam(p, 1e-2) for p in parameters)
    formula.fused = False
    assert kernel.fused
    for k in range(50):
        gradient = torch.randn(300, dtype=kind) * 10.0 ** -(k % 5)
        gradient[:100] = 0
        for p, optimizer in zip(parameters, (kernel, formula), strict=True):
            p.grad = gradient.clone()
            optimizer.step()
    close = 1e-5 if kind == torch.float32 else 1e-12
    torch.testing.assert_close(parameters[0], parameters[1], rtol=close, atol=close)
    torch.testing.assert_close(kernel.second, formula.second, rtol=close, atol=0)
    assert kernel.steps == formula.steps == 50


def test_a_torch_without_the_kernel_takes_the_formula(monkeypatch):
    monkeypatch.setattr(adam, "FUSED", None)
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.tensor([1.0, -2.0, 0.0])
    optimizer = Adam(p, 0.1)
    optimizer.step()
    assert not optimizer.fused
    torch.testing.assert_close(p.data, torch.tensor([0.9, 1.1, 1.0]))


def test_it_imports_no_compiler():
    code = "import sys, torch\nfrom ray_jobs.rl.optim.adam import Adam\np = torch.zeros(2); p.grad = torch.ones(2)\nAdam(p, 1.0).step()"
    code += "\nassert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
