"""Adam and RMSProp over one vector of parameters.

The first optimiser of torch.optim that a process makes imports torch's compiler, which takes as long as importing torch: half of the
time in which `ppo_cartpole` balances its pole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ray_jobs.rl.optim.flat import FlatOptimizer

FUSED = getattr(torch, "_fused_adam_", None)
"""The kernel of torch.optim.Adam(fused=True): a third of the formula's time."""


def fusable(flat: Tensor) -> bool:
    """Whether this torch has the kernel for a vector of this kind."""
    return FUSED is not None and flat.device.type in ("cpu", "cuda") and flat.dtype in (torch.float32, torch.float64)


class Adam(FlatOptimizer):
    """Adam, with the state of torch.optim.Adam.

    Source: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1.

    Args:
        flat: all parameters as one vector [P], with a gradient [P].
        lr: step size.
        betas: decay of the moments.
        eps: added to the root of the second moment.
    """

    def __init__(self, flat: Tensor, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__(flat, lr, {"betas": betas, "eps": eps})
        self.steps, self.first, self.second = 0, torch.zeros_like(flat), torch.zeros_like(flat)
        self.fused, self.count = fusable(flat), torch.zeros((), device=flat.device)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by one step down their gradient."""
        self.steps += 1
        (self.by_kernel if self.fused else self.by_formula)(self.param_groups[0])

    def by_kernel(self, group: Mapping[str, Any]) -> None:
        """One step by torch's fused kernel."""
        (flat,), (b1, b2) = group["params"], group["betas"]
        how = {"lr": group["lr"], "beta1": b1, "beta2": b2, "eps": group["eps"], "weight_decay": 0.0}
        moments, count = ([self.first], [self.second], []), [self.count.fill_(self.steps)]
        FUSED([flat], [flat.grad], *moments, count, **how, amsgrad=False, maximize=False)

    def by_formula(self, group: Mapping[str, Any]) -> None:
        """One step by algorithm 1."""
        (flat,), (b1, b2) = group["params"], group["betas"]
        self.first.lerp_(flat.grad, 1 - b1)
        self.second.mul_(b2).addcmul_(flat.grad, flat.grad, value=1 - b2)
        scale = (self.second / (1 - b2**self.steps)).sqrt_().add_(group["eps"])
        flat.addcdiv_(self.first, scale, value=-group["lr"] / (1 - b1**self.steps))

    def state_dict(self) -> dict[str, Any]:
        """Plain types and tensors, as torch's."""
        moments = {"step": torch.tensor(float(self.steps)), "exp_avg": self.first, "exp_avg_sq": self.second}
        return {"state": {0: moments}, "param_groups": self.groups()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        moments = state["state"][0]
        self.steps = int(moments["step"])
        self.first.copy_(moments["exp_avg"])
        self.second.copy_(moments["exp_avg_sq"])
        self.load_groups(state["param_groups"])


class RMSProp(FlatOptimizer):
    """RMSProp without momentum or centring, with the state of torch.optim.RMSprop.

    Source: Mnih et al. 2016, arXiv:1602.01783, section 4, "Optimization".
    Differs: eps is added to the root, as in torch, and not under it.

    Args:
        flat: all parameters as one vector [P], with a gradient [P].
        lr: step size.
        alpha: decay of the mean square.
        eps: added to its root.
    """

    def __init__(self, flat: Tensor, lr: float, alpha: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(flat, lr, {"alpha": alpha, "eps": eps})
        self.steps, self.square = 0, torch.zeros_like(flat)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by one step down their gradient."""
        group = self.param_groups[0]
        (flat,), alpha = group["params"], group["alpha"]
        self.steps += 1
        self.square.mul_(alpha).addcmul_(flat.grad, flat.grad, value=1 - alpha)
        flat.addcdiv_(flat.grad, self.square.sqrt().add_(group["eps"]), value=-group["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Plain types and tensors, as torch's."""
        mean = {"step": torch.tensor(float(self.steps)), "square_avg": self.square}
        return {"state": {0: mean}, "param_groups": self.groups()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        mean = state["state"][0]
        self.steps = int(mean["step"])
        self.square.copy_(mean["square_avg"])
        self.load_groups(state["param_groups"])
