"""Networks, policies and optimisers written plainly, for whole updates by torch.autograd: nothing here is the project's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch import distributions as D
from torch.nn import functional as F


def tanh_net(net: nn.Module, x: Tensor) -> Tensor:
    """Linear layers with tanh between them, [*, in] -> [*, out]."""
    return layered([(m.weight, m.bias) for m in net.modules() if isinstance(m, nn.Linear)], x, torch.tanh)


def relu_net(net: nn.Module, x: Tensor) -> Tensor:
    """The same with ReLU."""
    return layered([(m.weight, m.bias) for m in net.modules() if isinstance(m, nn.Linear)], x, F.relu)


def critics(ensemble: nn.Module, x: Tensor) -> Tensor:
    """[n, N, out] of inputs x [N, in]: one member after the other."""
    pairs = list(zip(ensemble.weights, ensemble.biases, strict=True))
    return torch.stack([layered([(w[i].t(), b[i, 0]) for w, b in pairs], x, F.relu) for i in range(ensemble.n)])


def layered(layers: list[tuple[Tensor, Tensor]], x: Tensor, act) -> Tensor:
    for k, (weight, bias) in enumerate(layers):
        x = F.linear(x, weight, bias)
        x = act(x) if k < len(layers) - 1 else x
    return x


def actor_critic(agent, obs: Tensor) -> tuple[Tensor, Tensor]:
    """The policy's parameters [*, outputs] and V [*]."""
    if agent.shared:
        both = tanh_net(agent.both, obs)
        return both[..., :-1], both[..., -1]
    return tanh_net(agent.actor, obs), tanh_net(agent.critic, obs)[..., 0]


def distribution(policy, out: Tensor) -> D.Distribution:
    """The policy by torch's own distributions."""
    if hasattr(policy, "log_std"):
        return D.Independent(D.Normal(out, policy.log_std.exp()), 1)
    return D.Categorical(logits=out)


def squashed(squash, out: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """An action tanh(mean + std z) scaled to its bounds [N, A], and its log density [N], by the change of variables."""
    mean, log_std = out.chunk(2, -1)
    std = log_std.clamp(-20, 2).exp()
    u = (mean + std * z).tanh()
    density = D.Normal(mean, std).log_prob(mean + std * z) - torch.log(squash.reach * (1 - u.square()))
    return squash.centre + squash.reach * u, density.sum(-1)


class Steps:
    """Adam or RMSProp by torch, after the gradient was clipped by torch."""

    def __init__(self, module: nn.Module, kind=torch.optim.Adam, max_norm: float = math.inf, **how) -> None:
        self.parameters, self.max_norm = list(module.parameters()), max_norm
        self.optimizer = kind(self.parameters, **how)

    def down(self, loss: Tensor) -> None:
        """One step."""
        self.optimizer.zero_grad()
        grads = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        for p, g in zip(self.parameters, grads, strict=True):
            p.grad = g
        if self.max_norm < math.inf:
            nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        self.optimizer.step()


def polyak(slow: nn.Module, online: nn.Module, tau: float) -> None:
    """slow <- tau online + (1 - tau) slow."""
    with torch.no_grad():
        for s, o in zip(slow.parameters(), online.parameters(), strict=True):
            s.copy_(tau * o + (1 - tau) * s)


def same(ours: nn.Module, theirs: nn.Module) -> None:
    """All weights agree up to rounding."""
    found, expected = ours.state_dict(), theirs.state_dict()
    assert found.keys() == expected.keys()
    for k, x in expected.items():
        torch.testing.assert_close(found[k], x, rtol=1e-5, atol=1e-7, msg=lambda m, k=k: f"{k}: {m}")
