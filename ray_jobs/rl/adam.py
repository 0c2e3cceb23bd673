"""Adam over one vector of parameters.

Source: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1.
Differs: nothing; it is here because the first optimiser of torch.optim that a process makes imports torch's compiler, which takes
as long as importing torch, and a pole is balanced in twice that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Adam:
    """What the runtime uses of a torch optimiser, with the state of torch.optim.Adam.

    Args:
        flat: all parameters as one vector [P], with a gradient [P].
        lr: step size.
        betas: decay of the moments.
        eps: added to the root of the second moment.
    """

    def __init__(self, flat: Tensor, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": [flat], "lr": lr, "betas": betas, "eps": eps}]
        self.steps, self.first, self.second = 0, torch.zeros_like(flat), torch.zeros_like(flat)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by one step down their gradient."""
        group = self.param_groups[0]
        (flat,), (b1, b2) = group["params"], group["betas"]
        self.steps += 1
        self.first.lerp_(flat.grad, 1 - b1)
        self.second.mul_(b2).addcmul_(flat.grad, flat.grad, value=1 - b2)
        scale = (self.second / (1 - b2**self.steps)).sqrt_().add_(group["eps"])
        flat.addcdiv_(self.first, scale, value=-group["lr"] / (1 - b1**self.steps))

    def state_dict(self) -> dict[str, Any]:
        """Plain types and tensors, as torch's."""
        moments = {"step": torch.tensor(float(self.steps)), "exp_avg": self.first, "exp_avg_sq": self.second}
        return {"state": {0: moments}, "param_groups": [self.param_groups[0] | {"params": [0]}]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        moments = state["state"][0]
        self.steps = int(moments["step"])
        self.first.copy_(moments["exp_avg"])
        self.second.copy_(moments["exp_avg_sq"])
        self.param_groups[0] |= {k: v for k, v in state["param_groups"][0].items() if k != "params"}
