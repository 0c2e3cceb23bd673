"""Our U-Net as diffusers' UNet2DModel, and the reverse: configuration and names of weights.

Source: diffusers 0.42.1, `models/unets/unet_2d.py` and `unet_2d_blocks.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.exchange.config import Config, count, counts, demand, real, texts
from lightning_modules.exchange.layers import Entry, layer
from lightning_modules.nets.attention import Attention
from lightning_modules.nets.embed import index_waves
from lightning_modules.nets.residual import Residual, Upsample, grouped
from lightning_modules.nets.unet import AttentionBlock, UNet

CLASS = "UNet2DModel"
FIXED = {
    "center_input_sample": False, "time_embedding_type": "positional", "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1, "act_fn": ("silu", "swish"), "class_embed_type": None,
}  # fmt: skip
"""Values of a configuration that our network has no other of."""
KINDS = {
    "DownBlock2D": (False, "conv"), "AttnDownBlock2D": (True, ""), "ResnetDownsampleBlock2D": (False, "resnet"),
    "UpBlock2D": (False, "conv"), "AttnUpBlock2D": (True, ""), "ResnetUpsampleBlock2D": (False, "resnet"),
}  # fmt: skip
"""Of each kind of block: whether it attends, and how it halves or doubles; '' as the configuration says."""
OLD = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""Parts of the names of attention in files of earlier versions of diffusers."""


class HalvingAtOdd(nn.Conv2d):
    """The convolution that halves, centred at odd rows and columns: diffusers' `downsample_padding` 0; [B, C, H, W] -> [B, C, H/2, W/2]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H/2, W/2]."""
        return super().forward(F.pad(x, (0, 1, 0, 1)))


# ---- from ours to theirs


def config_of(net: UNet, shape: tuple[int, ...]) -> dict[str, Any]:
    """The configuration of the same network in diffusers.

    Args:
        shape: of an image.

    Raises:
        ValueError: diffusers has no such network; the sentence says why.
    """
    _refuse(net)
    down, up = _levels(net.down), _levels(net.up)
    resnet = any(isinstance(part, Residual) for part in net.down)
    attends, head = [_attends(level) for level in down], _head(net)
    if attends != [_attends(level) for level in up[::-1]]:
        raise ValueError("diffusers' UNet2DModel attends at the same resolutions on the way down and up.")
    groups, eps = _norms(net)
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if resnet else ("DownBlock2D", "UpBlock2D")
    label = net.condition.label
    padding = 0 if any(isinstance(part, HalvingAtOdd) for part in net.down) else 1
    config = {
        "sample_size": shape[1] if shape[1] == shape[2] else list(shape[1:]),
        "in_channels": net.channels,
        "out_channels": net.leave.out_channels,
        "block_out_channels": [level[-1].block.conv2.out_channels for level in down],
        "layers_per_block": _one({len(level) for level in down}, "number of blocks at each resolution"),
        "down_block_types": ["AttnDownBlock2D" if a else plain[0] for a in attends],
        "up_block_types": ["AttnUpBlock2D" if a else plain[1] for a in attends[::-1]],
        "downsample_type": "resnet" if resnet else "conv",
        "upsample_type": "resnet" if resnet else "conv",
        "downsample_padding": padding,
        "add_attention": isinstance(net.middle[0].attend, Attention),
        "attention_head_dim": head,
        "norm_num_groups": groups,
        "norm_eps": eps,
        "dropout": net.middle[0].block.drop.rate,
        "resnet_time_scale_shift": "scale_shift" if net.middle[0].block.scale_shift else "default",
        "attn_norm_num_groups": groups,
        "time_embedding_type": "positional",
        "flip_sin_to_cos": True,
        "freq_shift": shift_of(net.condition.features, net.enter.out_channels),
        "num_class_embeds": None if label is None else label.num_embeddings,
    }
    return config


def shift_of(features: Any, dim: int) -> int:
    """The `shift` of features of the level that are `index_waves` of this number.

    Raises:
        ValueError: they are others.
    """
    if not isinstance(features, partial) or features.func is not index_waves or features.keywords.get("dim") != dim:
        raise ValueError(
            f"diffusers' networks are given {dim} waves of the level's index, and this one other features of the level: "
            "train it with --diffusers, where the recipe has that setting."
        )
    return int(features.keywords.get("shift", 0))


def _refuse(net: UNet) -> None:
    """Refuse what UNet2DModel has no place for.

    Raises:
        ValueError: the sentence names it.
    """
    given = [name for name in net.condition.allowed if name != "label"]
    parts = {
        "patches": net.patch > 1,
        "scaled skip connections": net.skip_scale != 1,
        "scaled sums": any(isinstance(m, Residual | Attention) and m.scale != 1 for m in net.modules()),
        "attention to tokens": net.tokens is not None,
        f"condition '{next(iter(given), '')}'": bool(given),
    }
    for what, has in parts.items():
        if has:
            raise ValueError(f"diffusers' UNet2DModel has no {what}: this network cannot be exported.")


def _levels(parts: nn.ModuleList) -> list[list[AttentionBlock]]:
    """The blocks of each resolution, in the order of the network."""
    levels: list[list[AttentionBlock]] = [[]]
    for part in parts:
        if isinstance(part, AttentionBlock):
            levels[-1].append(part)
        else:
            levels.append([])
    return levels


def _attends(level: list[AttentionBlock]) -> bool:
    return isinstance(level[0].attend, Attention)


def _head(net: UNet) -> int | None:
    """Channels of a head; None where every attention has one head of all channels."""
    found = [m for m in net.modules() if isinstance(m, Attention)]
    sizes = {m.norm.num_channels // m.heads for m in found}
    if len(sizes) > 1 and all(m.heads == 1 for m in found):
        return None
    return _one(sizes, "number of channels of a head") if sizes else None


def _norms(net: UNet) -> tuple[int, float]:
    """Groups and epsilon of all normalisations."""
    found = [m for m in net.modules() if isinstance(m, nn.GroupNorm)]
    return _one({m.num_groups for m in found}, "number of groups of a normalisation"), found[0].eps


def _one(values: set[int], what: str) -> int:
    """The one value.

    Raises:
        ValueError: there are several.
    """
    if len(values) > 1:
        raise ValueError(
            f"diffusers' UNet2DModel has one {what}, and this network {' and '.join(map(str, sorted(values)))}: "
            "train it with --diffusers, where the recipe has that setting."
        )
    return next(iter(values))


# ---- from theirs to ours


def network_of(config: Config) -> UNet:
    """Our network for a configuration of diffusers.

    Raises:
        ValueError: ours has no such network; the sentence says why.
    """
    demand(config, FIXED)
    widths, width = counts(config, "block_out_channels"), counts(config, "block_out_channels")[0]
    if any(c % width for c in widths) or width % 2:
        raise ValueError(
            f"Our U-Net has no block_out_channels {widths}: the first must be even and divide all of them."
        )
    demand(config, {"time_embedding_dim": (None, 4 * width)})
    attention, resnet = _attention_and_kind(config, len(widths))
    channels, shift = count(config, "in_channels", 3), count(config, "freq_shift", 0, least=0)
    outputs, rest = divmod(count(config, "out_channels", 3), channels)
    if rest or not outputs:
        raise ValueError(f"Our network has no out_channels that are no multiple of its in_channels {channels}.")
    if width // 2 <= shift:
        raise ValueError(f"The configuration's freq_shift {shift} is too large for {width} waves.")
    heads, head = _heads(config, widths, attention)
    net = UNet(
        channels,
        width=width,
        multiples=tuple(c // width for c in widths),
        blocks=count(config, "layers_per_block", 2),
        attention=attention,
        head=head,
        heads=heads,
        dropout=real(config, "dropout", 0.0, 0.0, 0.999),
        classes=_classes(config),
        outputs=outputs,
        scale_shift=config.get("resnet_time_scale_shift", "default") == "scale_shift",
        residual_resampling=resnet,
        features=partial(index_waves, dim=width, shift=shift),
    )
    demand(config, {"resnet_time_scale_shift": ("default", "scale_shift")})
    _pad(net, config)
    groups, eps = count(config, "norm_num_groups", 32), real(config, "norm_eps", 1e-5, 0.0, 1.0)
    demand(config, {"attn_norm_num_groups": groups if config.get("attn_norm_num_groups") is not None else None})
    if config.get("attn_norm_num_groups") is None and head + heads:
        demand(
            config, {"resnet_time_scale_shift": "default"}
        )  # its attention in the middle would have no normalisation
    grouped(net, groups, eps)
    return net


def _attention_and_kind(config: Config, levels: int) -> tuple[tuple[int, ...], bool]:
    """The resolutions that attend, and whether residual blocks halve and double."""
    down, up = texts(config, "down_block_types"), texts(config, "up_block_types")
    for name in (*down, *up):
        if name not in KINDS:
            raise ValueError(f"Our U-Net has no block {name}: known are {', '.join(KINDS)}.")
    attends = [KINDS[name][0] for name in down]
    if len(down) != levels or attends != [KINDS[name][0] for name in up[::-1]]:
        raise ValueError("Our U-Net attends at the same resolutions on the way down and up.")
    kinds = {KINDS[name][1] or config.get("downsample_type", "conv") for name in down[:-1]}
    kinds |= {KINDS[name][1] or config.get("upsample_type", "conv") for name in up[:-1]}
    if not kinds <= {"conv", "resnet"} or len(kinds) > 1:
        raise ValueError("Our U-Net halves and doubles in one way, 'conv' or 'resnet', at all resolutions.")
    return tuple(i for i, attend in enumerate(attends) if attend), kinds == {"resnet"}


def _heads(config: Config, widths: list[int], attention: tuple[int, ...]) -> tuple[int, int]:
    """The number of heads where it is 1 everywhere, else 0; and channels of a head."""
    if not config.get("add_attention", True):
        if attention:
            raise ValueError("Our U-Net attends in its middle where it attends anywhere: add_attention must be true.")
        return 0, 0
    if "attention_head_dim" in config and config["attention_head_dim"] is None:
        return 1, 0
    head = count(config, "attention_head_dim", 8)
    if wrong := [c for c in (*(widths[i] for i in attention), widths[-1]) if c % head]:
        raise ValueError(f"{wrong[0]} channels cannot be divided into heads of {head}.")
    return 0, head


def _classes(config: Config) -> int:
    """The number of labels; the last row of the table is the null label, as in networks of ours."""
    return 0 if config.get("num_class_embeds") is None else count(config, "num_class_embeds", least=2) - 1


def _pad(net: UNet, config: Config) -> None:
    demand(config, {"downsample_padding": (1, 0)})
    if config.get("downsample_padding", 1) == 0:
        for k, part in enumerate(net.down):
            if isinstance(part, nn.Conv2d):
                net.down[k] = HalvingAtOdd(part.in_channels)


# ---- the names


def entries_of(net: UNet, config: Config) -> list[Entry]:
    """Each weight of ours and where it is among theirs."""
    found = [*layer("enter", "conv_in"), *layer("norm", "conv_norm_out"), *layer("leave", "conv_out")]
    found += _of_level(
        "condition.body.0", "time_embedding.linear_1", sines_first=not config.get("flip_sin_to_cos", True)
    )
    found += layer("condition.body.2", "time_embedding.linear_2")
    if net.condition.label is not None:
        found.append(Entry("condition.label.weight", ("class_embedding.weight",)))
    for way, parts, resize in (("down", net.down, "downsamplers"), ("up", net.up, "upsamplers")):
        level, place = 0, 0
        for k, part in enumerate(parts):
            at = f"{way}_blocks.{level}"
            if isinstance(part, AttentionBlock):
                found += _block(part, f"{way}.{k}", f"{at}.resnets.{place}", f"{at}.attentions.{place}")
                place += 1
                continue
            found += _resizing(part, f"{way}.{k}", f"{at}.{resize}.0")
            level, place = level + 1, 0
    for k, part in enumerate(net.middle):
        found += _block(part, f"middle.{k}", f"mid_block.resnets.{k}", "mid_block.attentions.0")
    return found


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the names of attention as they are now."""

    def now(name: str) -> str:
        old = next((part for part in OLD if ".attentions." in name and part in name), None)
        return name if old is None else name.replace(old, OLD[old])

    return {now(name): weight for name, weight in weights.items()}


def _of_level(ours: str, theirs: str, *, sines_first: bool) -> Iterator[Entry]:
    """The layer that sees cosines and sines, or first sines."""

    def swapped(weight: Tensor) -> Tensor:
        return weight.roll(weight.shape[1] // 2, 1)

    for entry in layer(ours, theirs):
        waves = sines_first and entry.ours.endswith("weight")
        yield entry._replace(out=swapped, back=swapped) if waves else entry


def _block(part: AttentionBlock, ours: str, resnet: str, attention: str) -> Iterator[Entry]:
    yield from _residual(part.block, f"{ours}.block", resnet)
    if isinstance(part.attend, Attention):
        yield from layer(f"{ours}.attend.norm", f"{attention}.group_norm")
        yield from layer(f"{ours}.attend.qkv", *(f"{attention}.to_{name}" for name in "qkv"))
        yield from layer(f"{ours}.attend.leave", f"{attention}.to_out.0")


def _residual(part: Residual, ours: str, theirs: str) -> Iterator[Entry]:
    for name in ("norm1", "conv1", "norm2", "conv2"):
        yield from layer(f"{ours}.{name}", f"{theirs}.{name}")
    yield from layer(f"{ours}.condition", f"{theirs}.time_emb_proj")
    if isinstance(part.skip, nn.Conv2d):
        yield from layer(f"{ours}.skip", f"{theirs}.conv_shortcut")


def _resizing(part: nn.Module, ours: str, theirs: str) -> Iterator[Entry]:
    if isinstance(part, Residual):
        yield from _residual(part, ours, theirs)
    else:
        yield from layer(f"{ours}.conv" if isinstance(part, Upsample) else ours, f"{theirs}.conv")
