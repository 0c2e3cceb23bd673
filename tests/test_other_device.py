"""The stand-in for a GPU: it computes, and it refuses what a GPU refuses."""

import pytest
import torch
from torch import nn

from tests.other_device import Mixed, other_device


def test_it_trains_a_network_to_the_same_weights():
    def train(device: str | torch.device) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)).to(device)
        optimizer = torch.optim.Adam(net.parameters(), fused=True)
        for _ in range(3):
            x = torch.randn(16, 3).to(device)
            loss = (net(x)[:, 0] - x.sum(1)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert net[0].weight.grad.device.type == torch.device(device).type
        return net[0].weight.detach().cpu()

    on_cpu = train("cpu")
    with other_device() as device:
        assert torch.equal(train(device), on_cpu)


def test_it_answers_as_a_device_does():
    with other_device() as device:
        x = torch.randn(3, generator=torch.Generator(device).manual_seed(0), device=device)
        assert x.device == device and x[1:].device == device and x.exp().device == device
        assert x.new_zeros(2).device == device and torch.zeros_like(x).device == device
        assert (
            nn.functional.pad(x, (1, 0)).device == device
        )  # made inside one call: an empty tensor, and copies into it
        assert nn.functional.one_hot(torch.zeros(3, dtype=torch.long).to(device), 2).device == device
        assert (x + torch.tensor(1.0)).device == device  # a CPU tensor of shape [] may meet any
        assert (x[torch.tensor([0, 2])]).device == device  # and so may indices
        assert x.cpu().device.type == "cpu" and x.to("cpu").numpy().shape == (3,)
        assert torch.zeros(3).to(x).device == device and x.to(torch.float64).device == device
        assert torch.zeros(3).copy_(x).device.type == "cpu"
        assert x.sum().item() == pytest.approx(sum(x.tolist()))


MIXED = {
    "sum": lambda x, d: x + torch.zeros(3),
    "a shape [] there": lambda x, d: x[0] + torch.zeros(3),
    "into the CPU": lambda x, d: torch.zeros(3).add_(x),
    "join": lambda x, d: torch.cat([x, torch.zeros(3)]),
    "matmul": lambda x, d: nn.Linear(3, 2)(x),
    "indices there": lambda x, d: torch.zeros(3)[(x > 0)],
    "a CPU draw by its generator": lambda x, d: torch.rand(3, generator=torch.Generator(d)),
    "a draw by the CPU's": lambda x, d: torch.rand(3, generator=torch.Generator(), device=d),
    "a draw into it": lambda x, d: x.normal_(generator=torch.Generator()),
    "an integer draw": lambda x, d: torch.randperm(3, generator=torch.Generator(d)),
    "numpy": lambda x, d: x.numpy(),
    "backwards": lambda x, d: torch.autograd.grad(x.requires_grad_().sum(), x, torch.zeros(3) + x.sum()),
}


@pytest.mark.parametrize("what", MIXED)
def test_it_refuses_to_mix(what):
    with other_device() as device:
        x = torch.ones(3, device=device)
        with pytest.raises(Mixed):
            MIXED[what](x, device)


def test_all_is_as_before_outside():
    with other_device():
        pass
    assert type(torch.Generator()) is torch.Generator
    assert torch.ones(2).device.type == "cpu"
