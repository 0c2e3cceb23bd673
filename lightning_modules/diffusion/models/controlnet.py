"""ControlNet: a frozen diffusion model that learns to follow a picture, such as edges or a mask.

System: ControlNet
Source: Zhang et al. 2023, arXiv:2302.05543, section 3, eq. 5; section 3.3 (half of the prompts hidden); learning rate: its published code.
Differs: the base may be any diffusion model with a U-Net, so what is hidden is whatever condition it was trained to do without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from lightning_modules.conditions import Cond
from lightning_modules.diffusion.denoising import Denoising
from lightning_modules.model import Batch
from lightning_modules.nets.control import ControlNet
from lightning_modules.nets.unet import UNet
from lightning_modules.optim import AdamW, Optim


def controlnet(
    base: Denoising,
    *,
    key: str,
    channels: int,
    widths: tuple[int, ...] = (16, 32, 96, 256),
    drop: float = 0.5,
    optim: Optim = AdamW(1e-5),  # frozen
) -> Denoising:
    """The base with a branch that is trained; base and branch share the base's network, which is not copied.

    It learns and draws as the base does, in its space. Only the branch is optimised and averaged. Guidance leaves out the conditions
    that the base hides, and keeps the control.

    Args:
        base: a model with a `UNet`, trained already, or an earlier part of the same `Staged` model.
        key: of the batch, under which the control is.
        channels: of the control.
        widths: of the hint network: one for each resolution, from the control's down to that of the network's features.
        drop: share of the examples for which each condition that the base can do without is hidden.
        optim: of the branch.

    Raises:
        TypeError: the base has another network.
        ValueError: as `ControlNet`, or the share is not in [0, 1].
    """
    if not isinstance(base.net, UNet):
        raise TypeError(f"A ControlNet copies the way down of a U-Net; a {type(base.net).__name__} has none.")
    if not 0 <= drop <= 1:
        raise ValueError(f"The share of examples whose conditions are hidden must be in [0, 1], not {drop:g}.")
    return Denoising(
        ControlNet(base.net, channels=channels, widths=widths),
        base.shape,
        level_input=base.level_input,
        precondition=base.precondition,
        learn=base.learn,
        draw=base.draw,
        bound=base.bound,
        space=base.space,
        conditions=with_control(base.conditions, key),
        hide=dict.fromkeys(base.hide, drop),
        optim=optim,
        trained="net.branch",
    )


def with_control(conditions: Callable[[Batch], Cond], key: str) -> Callable[[Batch], Cond]:
    """The conditions of a batch, and its entry `key` as the control."""
    return lambda batch: replace(conditions(batch), control=batch[key])


def copy_to(part: str) -> Callable[[nn.Module], None]:
    """The hand-over of a stage that trained the base: the branch of the part's ControlNet begins as the base is now."""

    def copy(model: nn.Module) -> None:
        net = model.get_submodule(f"{part}.net")
        assert isinstance(net, ControlNet)
        net.copy_base()

    return copy
