"""ControlNet: a frozen diffusion model that learns to follow a picture, such as edges or a mask.

A trained copy of the frozen U-Net's way down is shown the picture, and adds to what the frozen way up is given.

System: ControlNet
Source: Zhang et al. 2023, arXiv:2302.05543, section 3, eq. 2, 3 and 5, figure 3; section 3.3 (half of the prompts hidden); the layers of
the hint network and the learning rate: its published code.
Differs: the base may be any diffusion model with a U-Net, so what is hidden is whatever condition it was trained to do without; the
widths of the hint network and the number of its halvings are arguments.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_modules.compat import autocast
from lightning_modules.conditions import UNCONDITIONAL, Cond
from lightning_modules.diffusion.denoising import Denoising
from lightning_modules.model import Batch
from lightning_modules.nets.mlp import zero
from lightning_modules.nets.unet import Inside, UNet
from lightning_modules.optim import AdamW, Optim


def hint_network(channels: int, widths: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Convolutions of pictures [B, channels, H, W] -> [B, outputs, h, w], the last one zero; h = H / 2^(len(widths) - 1).

    Args:
        widths: channels at each resolution, from the full one down; (16, 32, 96, 256) in the paper's code.
    """
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1), nn.SiLU()]
    for wide, wider in pairwise(widths):
        layers += [nn.Conv2d(wide, wide, 3, padding=1), nn.SiLU()]
        layers += [nn.Conv2d(wide, wider, 3, stride=2, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, zero(nn.Conv2d(widths[-1], outputs, 3, padding=1)))


def way_down(net: UNet) -> UNet:
    """A copy of a U-Net without its way up, for `encode` alone, with weights that are trained."""
    found = copy.deepcopy(net)
    found.up, found.norm, found.leave = nn.ModuleList(), nn.Identity(), nn.Identity()  # type: ignore[assignment]
    return found.requires_grad_()


class Branch(nn.Module):
    """What a ControlNet trains: a copy of the way down and the middle, the hint network, and a zero 1x1 for each of their outputs.

    Args:
        net: the U-Net that is copied.
        channels: of the pictures.
        widths: of `hint_network`.
    """

    def __init__(self, net: UNet, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.hint = hint_network(channels, widths, net.enter.out_channels)
        self.copy = way_down(net)
        self.zeros = nn.ModuleList(zero(nn.Conv2d(width, width, 1)) for width in net.widths)

    def forward(self, x: Tensor, level: Tensor, cond: Cond, control: Tensor) -> list[Tensor]:
        """What is added to each of `Inside.features`, zero at first."""
        found = self.copy.encode(x, level, cond, added=self.hint(control))
        return [layer(feature) for layer, feature in zip(self.zeros, found.features, strict=True)]


class ControlNet(nn.Module):
    """A frozen U-Net with a trained branch: (x [B, C, H, W], level [B], conditions with `control`) -> [B, outputs C, H, W].

    At first the output is exactly that of the frozen network, whatever the control; without a control, and in rows in which it is
    hidden, it always is. The frozen way down keeps nothing for the backward pass; the way up passes gradients to the branch.

    Args:
        base: the frozen network; the caller sees that no optimiser moves its weights.
        channels: of `Cond.control`, values in [0, 1].
        widths: channels of the hint network, whose len(widths) - 1 halvings lead from the control to the base's features.

    Raises:
        ValueError: the control would be smaller than x.
    """

    def __init__(self, base: UNet, *, channels: int, widths: tuple[int, ...] = (16, 32, 96, 256)) -> None:
        super().__init__()
        if 2 ** (len(widths) - 1) < base.patch:
            raise ValueError(
                f"A hint network of {len(widths)} widths halves {len(widths) - 1} times, but the network's patches have {base.patch} "
                "pixels to a side: give more widths."
            )
        self.base, self.branch, self.channels = base, Branch(base, channels, widths), channels
        self.scale = 2 ** (len(widths) - 1) // base.patch
        """Sides of the control over those of x."""

    def copy_base(self) -> None:
        """Give the branch's copy the base's weights, as they are now."""
        own, weights = self.branch.copy.state_dict(), self.base.state_dict()
        self.branch.copy.load_state_dict({name: weights[name] for name in own})

    def forward(self, x: Tensor, level: Tensor, cond: Cond = UNCONDITIONAL) -> Tensor:
        """The output [B, outputs C, H, W].

        Raises:
            ValueError: as the U-Net's, or the control has another shape than x asks for.
        """
        others = cond.without("control")
        with autocast(x, self.base.bf16):
            with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
                found = self.base.encode(x, level, others)
            if cond.control is not None:
                self.check_control(tuple(cond.control.shape), tuple(x.shape))
                added = shown(self.branch(x, level, others, cond.control), cond.hidden.get("control"))
                features = tuple(f + a for f, a in zip(found.features, added, strict=True))
                found = Inside(features, found.vector, found.tokens)
            return self.base.decode(found).to(x)

    def check(self, shape: tuple[int, ...]) -> None:
        """Check the shape [..., C, H, W] of images, as the base does.

        Raises:
            ValueError: as `UNet.check`.
        """
        self.base.check(shape)

    def control_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (C, H, W) of the control for x of the shape [..., H, W]."""
        return (self.channels, *(self.scale * side for side in shape[-2:]))

    def check_control(self, control: tuple[int, ...], shape: tuple[int, ...]) -> None:
        """Check the shape [..., C, H, W] of a control for x of this shape.

        Raises:
            ValueError: it is another one.
        """
        wanted = self.control_shape(shape)
        if control[-3:] != wanted:
            raise ValueError(
                f"The control has {control[-3]} channel(s) of {control[-2]} x {control[-1]} pixels; this model takes {wanted[0]} of "
                f"{wanted[1]} x {wanted[2]}."
            )


def shown(added: list[Tensor], hidden: Tensor | None) -> list[Tensor]:
    """What is added, with zeros in the rows [B] in which the control is hidden."""
    return added if hidden is None else [a.masked_fill(hidden.to(a.device)[:, None, None, None], 0) for a in added]


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
