"""The private parts of torch and Lightning that this package uses, each with the versions in which it was seen.

`tests/lightning_modules/test_compat.py` has a test for each, which fails when an upgrade has removed or changed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
import torch
from torch import Tensor


def without_amp_scaling(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimiser, changed so that Lightning unscales float16 gradients itself, and may clip them.

    A fused optimiser could unscale them too; Lightning refuses to clip gradients for such an optimiser. Seen in torch 2.13 (fused
    optimisers set the attribute) and Lightning 2.6 (`MixedPrecision.clip_gradients` reads it).
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def uncounted(optimizer: Any) -> Any:
    """Lightning's wrapper of an optimiser, changed so that its steps do not count in `trainer.global_step`.

    Under manual optimisation every step of every optimiser counts. Seen in Lightning 2.6: the wrapper calls `_on_before_step` and
    `_on_after_step`, which the training loop has set to its counter.
    """
    optimizer._on_before_step = optimizer._on_after_step = lambda: None
    return optimizer


def trainer_of(module: L.LightningModule) -> L.Trainer | None:
    """The module's trainer, None where it has none; `module.trainer` raises there. Seen in Lightning 2.6."""
    return module._trainer


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The Euclidean norm [] of each tensor, by one kernel for many. Seen in torch 2.13: `torch._foreach_norm`."""
    return list(torch._foreach_norm(tensors))


def scale_(tensors: Sequence[Tensor], factor: float) -> None:
    """Multiply the tensors in place, by one kernel for many. Seen in torch 2.13: `torch._foreach_mul_`."""
    torch._foreach_mul_(tensors, factor)


def lerp_(tensors: Sequence[Tensor], ends: Sequence[Tensor], weight: float) -> None:
    """Move each tensor by `weight` of its distance to its end, in place. Seen in torch 2.13: `torch._foreach_lerp_`."""
    torch._foreach_lerp_(tensors, ends, weight)


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention [B, heads, N, dim] by the fused kernel of GPUs, which keeps no scores; for tensors without memory, which torch gives
    plain products. Seen in torch 2.13: `torch.ops.aten._scaled_dot_product_efficient_attention`.
    """
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, torch.is_grad_enabled())[0]  # type: ignore[no-any-return]


def autocast(x: Tensor, bf16: bool) -> AbstractContextManager[Any]:
    """The context of a network's inside for the input x: bfloat16, or float32 whatever surrounds it.

    Tensors without memory (device meta) keep the format of the weights: torch 2.13 has no such context for them.
    """
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, torch.bfloat16, enabled=bf16)
