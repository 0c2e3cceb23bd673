"""The optimiser and its schedule, as Lightning's `configure_optimizers` returns them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def adam(model: nn.Module, lr: float, *, warmup: int = 0, betas: tuple[float, float] = (0.9, 0.999)) -> dict[str, Any]:
    """Adam, fused into one pass over the weights; the learning rate rises linearly over the first `warmup` steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr, betas=betas, fused=True)
    # Fused optimisers may also unscale float16 gradients, for which Lightning refuses to clip them: leave that to it.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, warmup)))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
