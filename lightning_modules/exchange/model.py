"""A diffusion model as what diffusers' files hold, and the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_modules.diffusion.denoising import Denoising
from lightning_modules.diffusion.spaces import Pixels
from lightning_modules.exchange import dit, layers, scheduler, unet
from lightning_modules.exchange.config import Config, brief, count
from lightning_modules.nets.dit import DiT
from lightning_modules.nets.unet import UNet

CLASSES = {unet.CLASS: "unet", dit.CLASS: "transformer", "Transformer2DModel": "transformer"}
"""Networks of diffusers, and the folder of each in that of a pipeline; the last is DiT's class in earlier versions."""


class Parts(NamedTuple):
    """The content of the files of one network and its scheduler."""

    network: str
    """The class of the network."""
    config: Config
    """Of the network."""
    weights: dict[str, Tensor]
    schedule: Config
    """Of the scheduler."""


def exported(model: Denoising) -> Parts:
    """A model for diffusers.

    Raises:
        ValueError: diffusers cannot express it; the sentence says why.
    """
    if not isinstance(model.space, Pixels):
        raise ValueError(
            f"diffusers has no network with our {type(model.space).__name__}: only diffusion of pixels is exported."
        )
    if model.draw.consistent:
        raise ValueError("diffusers has no scheduler for a consistency model of ours: it cannot be exported.")
    net = model.net
    if isinstance(net, UNet):
        config = unet.config_of(net, model.shape)
        entries, more, name = unet.entries_of(net, config), {}, unet.CLASS
    elif isinstance(net, DiT):
        config = dit.config_of(net, model.shape)
        entries, more, name = dit.entries_of(net), dit.tables(net), dit.CLASS
    else:
        raise ValueError(f"diffusers has no {type(net).__name__}: a U-Net or a DiT can be exported.")
    return Parts(name, config, layers.exported(entries, net.state_dict()) | more, scheduler.config_of(model))


def imported(parts: Parts) -> Denoising:
    """A model of ours, with the weights.

    Nothing larger than the weights themselves is allocated, whatever the configuration says.

    Raises:
        ValueError: ours has no such network or scheduler, or the weights do not fit; the sentence says why.
    """
    name, config, weights, schedule = parts
    if name not in CLASSES:
        raise ValueError(f"There is no network {brief(name)} of ours: known are {', '.join(CLASSES)}.")
    _check_count(config, len(weights))
    with torch.device("meta"):  # shapes alone: a wrong configuration must not take memory
        net: UNet | DiT = unet.network_of(config) if name == unet.CLASS else dit.network_of(config, weights)
    if isinstance(net, UNet):
        found = layers.imported(unet.entries_of(net, config), unet.renamed(weights))
        outputs = net.leave.out_channels // net.channels
    else:
        found = layers.imported(dit.entries_of(net), _without_tables(net, weights))
        outputs = net.head.leave.out_features // net.patch**2 // net.channels
    for key, wanted in net.state_dict().items():
        if found[key].shape != wanted.shape:
            raise ValueError(
                f"The weights of our {key} have the shape {list(found[key].shape)}, and the configuration needs {list(wanted.shape)}."
            )
        if not found[key].isfinite().all():
            raise ValueError(f"The weights of our {key} are not finite.")
    net.load_state_dict({key: value.contiguous() for key, value in found.items()}, assign=True)
    shape = (net.channels, *_sides(config))
    net.check(shape)
    return scheduler.model_of(net.requires_grad_(), shape, outputs, schedule)


def _check_count(config: Config, weights: int) -> None:
    """Refuse more layers than there are weights, before any is made."""
    layers_, levels = (count(config, name, 1) for name in ("num_layers", "layers_per_block"))
    if max(layers_, levels) > weights or levels * len(config.get("block_out_channels") or ()) > weights:
        raise ValueError(f"The configuration has more layers than the file has weights ({weights}).")


def _without_tables(net: DiT, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the tables of zeros of a network without labels, and without positions, which earlier versions saved."""
    left = {} if net.condition.label is not None else dit.tables(net)
    return {key: value for key, value in weights.items() if key not in left and key != "pos_embed.pos_embed"}


def _sides(config: Config) -> tuple[int, int]:
    """Height and width of an image."""
    size: Any = config.get("sample_size")
    if isinstance(size, list) and len(size) == 2:
        return count({"sample_size": size[0]}, "sample_size"), count({"sample_size": size[1]}, "sample_size")
    side = count(config, "sample_size")
    return side, side
