"""Our DiT as diffusers' DiTTransformer2DModel, and the reverse: configuration and names of weights.

Each block of diffusers has a copy of the embeddings of level and label. Its network always takes a label: one without labels has a
table of zeros.

Source: diffusers 0.42.1, `models/transformers/dit_transformer_2d.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.exchange.config import Config, count, demand, real
from lightning_modules.exchange.layers import Entry, layer
from lightning_modules.exchange.unet import shift_of
from lightning_modules.nets.dit import DiT, Size
from lightning_modules.nets.dit_blocks import AdaptiveBlock
from lightning_modules.nets.embed import index_waves

CLASS = "DiTTransformer2DModel"
FIXED = {
    "attention_bias": True, "activation_fn": "gelu-approximate", "norm_type": "ada_norm_zero", "norm_elementwise_affine": False,
    "double_self_attention": False, "only_cross_attention": False, "cross_attention_dim": None, "num_vector_embeds": None,
}  # fmt: skip
"""Values of a configuration that our network has no other of. The last four are those of diffusers' earlier Transformer2DModel."""
WAVES = 256
"""Waves of the level's index in diffusers' DiT, with `shift` 1."""
EMBEDDING = "transformer_blocks.{}.norm1.emb."
TABLE = EMBEDDING + "class_embedder.embedding_table.weight"


def config_of(net: DiT, shape: tuple[int, ...]) -> dict[str, Any]:
    """The configuration of the same network in diffusers.

    Args:
        shape: of an image.

    Raises:
        ValueError: diffusers has no such network; the sentence says why.
    """
    _refuse(net, shape)
    block, label = net.blocks[0], net.condition.label
    heads = block.attend.heads
    return {
        "num_attention_heads": heads,
        "attention_head_dim": net.width // heads,
        "in_channels": net.channels,
        "out_channels": net.head.leave.out_features // net.patch**2,
        "num_layers": len(net.blocks),
        "dropout": block.drop.rate,
        "attention_bias": True,
        "sample_size": shape[1],
        "patch_size": net.patch,
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": 1 if label is None else label.num_embeddings - 1,
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
        "norm_eps": block.norm2.eps,
    }


def _refuse(net: DiT, shape: tuple[int, ...]) -> None:
    """Refuse what DiTTransformer2DModel has no place for.

    Raises:
        ValueError: the sentence names it.
    """
    block = net.blocks[0]
    given = [name for name in net.condition.allowed if name != "label"]
    parts = {
        f"design '{net.design}'": net.design != "adaln-zero",
        "normalised queries and keys": not isinstance(block.attend.q_norm, nn.Identity),
        "perceptron of another expansion than 4": block.mlp[0].out_features != 4 * net.width,
        f"condition '{next(iter(given), '')}'": bool(given),
        f"images of {shape[1]} x {shape[2]}, which are no squares": shape[1] != shape[2],
    }
    for what, has in parts.items():
        if has:
            raise ValueError(f"diffusers' {CLASS} has no {what}: this network cannot be exported.")
    if shift_of(net.condition.features, WAVES) != 1:
        raise ValueError(
            f"diffusers' {CLASS} has waves of the level's index with `shift` 1: this network cannot be exported."
        )


def network_of(config: Config, weights: Mapping[str, Tensor]) -> DiT:
    """Our network for a configuration of diffusers.

    Args:
        weights: theirs, which show whether there are labels.

    Raises:
        ValueError: ours has no such network; the sentence says why.
    """
    demand(config, FIXED)
    heads, channels = count(config, "num_attention_heads", 16), count(config, "in_channels", 4)
    outputs, rest = divmod(count(config, "out_channels", channels), channels)
    if rest or not outputs:
        raise ValueError(f"Our network has no out_channels that are no multiple of its in_channels {channels}.")
    labels, table = count(config, "num_embeds_ada_norm", 1000), weights.get(TABLE.format(0))
    size = Size(heads * count(config, "attention_head_dim", 72), count(config, "num_layers", 28), heads)
    none = labels == 1 and table is not None and not table.any()
    net = DiT(
        channels,
        size,
        patch=count(config, "patch_size", 2),
        dropout=real(config, "dropout", 0.0, 0.0, 0.999),
        classes=0 if none else labels,
        outputs=outputs,
        features=partial(index_waves, dim=WAVES, shift=1),
    )
    eps = real(config, "norm_eps", 1e-5, 0.0, 1.0)
    for block in net.blocks:
        assert isinstance(block, AdaptiveBlock)
        block.norm2.eps = eps
    return net


def entries_of(net: DiT) -> list[Entry]:
    """Each weight of ours and where it is among theirs, but for the table of a network without labels."""
    channels, side = net.head.leave.out_features // net.patch**2, net.patch
    embeddings = [EMBEDDING.format(i) for i in range(len(net.blocks))]

    def kernel(weight: Tensor) -> Tensor:
        return weight.unflatten(1, (-1, side, side))

    def pixels_first(weight: Tensor) -> Tensor:
        return weight.unflatten(0, (channels, side**2)).transpose(0, 1).flatten(0, 1)

    def channels_first(weight: Tensor) -> Tensor:
        return weight.unflatten(0, (side**2, channels)).transpose(0, 1).flatten(0, 1)

    weight, bias = layer("enter", "pos_embed.proj")
    found = [weight._replace(out=kernel, back=lambda w: w.flatten(1)), bias]
    for ours, theirs in (("condition.body.0", "linear_1"), ("condition.body.2", "linear_2")):
        found += layer(ours, *(f"{at}timestep_embedder.{theirs}" for at in embeddings), copies=True)
    if net.condition.label is not None:
        found.append(Entry("condition.label.weight", tuple(TABLE.format(i) for i in range(len(net.blocks))), True))
    for i in range(len(net.blocks)):
        ours, theirs = f"blocks.{i}", f"transformer_blocks.{i}"
        found += layer(f"{ours}.modulation", f"{theirs}.norm1.linear")
        found += layer(f"{ours}.attend.qkv", *(f"{theirs}.attn1.to_{name}" for name in "qkv"))
        found += layer(f"{ours}.attend.leave", f"{theirs}.attn1.to_out.0")
        found += [*layer(f"{ours}.mlp.0", f"{theirs}.ff.net.0.proj"), *layer(f"{ours}.mlp.2", f"{theirs}.ff.net.2")]
    found += layer("head.modulation", "proj_out_1")
    found += [e._replace(out=pixels_first, back=channels_first) for e in layer("head.leave", "proj_out_2")]
    return found


def tables(net: DiT) -> dict[str, Tensor]:
    """The tables of zeros of a network without labels; none of one with labels."""
    if net.condition.label is not None:
        return {}
    return {TABLE.format(i): torch.zeros(2, net.width) for i in range(len(net.blocks))}
