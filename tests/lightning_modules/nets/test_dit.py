"""The diffusion transformer: nothing at first, positions, sizes of the paper, three designs, and diffusers' network."""

import pytest
import torch

from lightning_modules.conditions import Cond
from lightning_modules.nets import dit
from lightning_modules.nets.dit import BLOCKS, SIZES, DiT, Size, positions
from lightning_modules.nets.embed import index_waves
from lightning_modules.nets.patches import patchify, unpatchify
from tests.lightning_modules.nets.awake import awake

TINY = Size(16, 2, 2)
OPTIONS = {
    "plain": {},
    "qk-norm": {"qk_norm": True},
    "learned variance, patch 4": {"outputs": 2, "patch": 4},
    "patch 1": {"patch": 1},
    "narrow perceptron": {"expansion": 0.5},
    "bfloat16, dropout": {"bf16": True, "dropout": 0.2},
    "labels": {"classes": 3},
    "all conditions": {"classes": 3, "vector": 5, "image": 2, "numbers": 2, "outputs": 2},
}


def tiny(channels=3, **options):
    return DiT(channels, TINY, **options)


def whole(net):
    """Conditions of two examples in every place that the net has."""
    sizes = {"vector": (2, 5), "image": (2, 2, 4, 4), "numbers": (2, 2)}
    fields = {name: torch.randn(sizes[name]) for name in net.condition.allowed if name in sizes}
    return Cond(**fields, label=torch.tensor([0, 2])) if "label" in net.condition.allowed else Cond(**fields)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("design", BLOCKS)
@pytest.mark.parametrize("case", OPTIONS)
def test_the_output_is_zero_at_first_has_its_shape_and_uses_every_weight(case, design, checkpoint, seeded):
    net = tiny(**OPTIONS[case], design=design, checkpoint=checkpoint)
    x, level = torch.randn(2, 3, 8, 16), torch.randn(2)
    out = net(x, level)
    assert out.shape == (2, 3 * OPTIONS[case].get("outputs", 1), 8, 16)
    assert out.dtype == x.dtype and (out == 0).all()
    awake(net)
    sum(net(x, level, cond).square().mean() for cond in (Cond(), whole(net))).backward()
    alone = (
        design == "cross-attention" and "classes" not in OPTIONS[case]
    )  # a softmax over the level alone needs no query
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    dead = [name for name in dead if not (alone and ("norm2" in name or "cross.q" in name))]
    assert not dead


def test_blocks_of_adaln_zero_are_the_identity_at_first_and_no_others(seeded):
    rows, vector = torch.randn(2, 6, 16), torch.randn(2, 16)
    for block in tiny().blocks:
        assert torch.equal(block(rows, vector), rows)
    for design, given in (("in-context", vector), ("cross-attention", torch.randn(2, 3, 16))):
        assert not torch.allclose(tiny(design=design).blocks[0](rows, given), rows)


def test_adaln_zero_is_the_formula(seeded):
    block = awake(tiny().blocks[0])
    rows, vector = torch.randn(2, 6, 16), torch.randn(2, 16)
    made = vector @ block.modulation.weight.T + block.modulation.bias
    shift1, scale1, gate1, shift2, scale2, gate2 = (made[:, None, 16 * i : 16 * (i + 1)] for i in range(6))

    def unit(h):
        return (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()

    middle = rows + gate1 * block.attend(unit(rows) * (1 + scale1) + shift1)
    expected = middle + gate2 * block.mlp(unit(middle) * (1 + scale2) + shift2)
    torch.testing.assert_close(block(rows, vector), expected)


@pytest.mark.parametrize("design", BLOCKS)
def test_the_network_knows_the_order_of_patches_by_their_positions_alone(design, seeded, monkeypatch):
    net = awake(tiny(1, design=design)).eval()
    x, level, order = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.randperm(16)
    moved = unpatchify(patchify(x, 2)[:, order], 2, 8, 8)

    def change():
        expected = patchify(net(x, level), 2)[:, order]
        return (patchify(net(moved, level), 2) - expected).norm() / expected.norm()

    assert change() > 0.01
    monkeypatch.setattr(dit, "positions", lambda h, w, dim, device: torch.zeros(h * w, dim, device=device))
    assert change() < 1e-5


def test_positions_are_all_different_and_tell_rows_from_columns():
    table = positions(4, 6, 32, torch.device("cpu"))
    assert table.shape == (24, 32)
    assert (torch.cdist(table, table) + 9 * torch.eye(24)).min() > 0.1
    grid = table.reshape(4, 6, 32)
    assert (grid[:, :, :16] == grid[:1, :, :16]).all()  # the column alone
    assert (grid[:, :, 16:] == grid[:, :1, 16:]).all()  # the row alone
    torch.testing.assert_close(grid[0, 3, :8], (3 * 10000.0 ** -(torch.arange(8) / 8)).sin())
    torch.testing.assert_close(grid[2, 0, 24:], (2 * 10000.0 ** -(torch.arange(8) / 8)).cos())


@pytest.mark.parametrize(("name", "millions"), [("S", 33), ("B", 130), ("L", 458), ("XL", 675)])
def test_the_sizes_have_the_papers_numbers_of_weights(name, millions):
    """Table 1: of latents [4, 32, 32] with patches of 2, a learned variance and 1000 classes."""
    with torch.device("meta"):
        net = DiT(4, SIZES[name], patch=2, classes=1000, outputs=2)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("design", BLOCKS)
def test_level_and_conditions_reach_the_output_of_every_design(design, seeded):
    net = awake(tiny(classes=3, vector=5, numbers=2, image=1, design=design)).eval()
    level, vector = torch.randn(2, requires_grad=True), torch.randn(2, 5, requires_grad=True)
    numbers, image = torch.randn(2, 2, requires_grad=True), torch.randn(2, 1, 4, 4, requires_grad=True)
    cond = Cond(label=torch.tensor([0, 1]), vector=vector, numbers=numbers, image=image)
    net(torch.randn(2, 3, 8, 8), level, cond)[0].square().sum().backward()
    for given in (level, vector, numbers, image):
        assert given.grad[0].abs().sum() > 0 and (given.grad[1] == 0).all()  # of the example itself, not of the other
    table = net.condition.label.weight.grad
    assert table[0].abs().sum() > 0 and (table[1:] == 0).all()


@pytest.mark.parametrize("design", BLOCKS)
def test_hidden_labels_are_absent_ones(design, seeded):
    net = awake(tiny(classes=3, design=design)).eval()
    x, level, label = torch.randn(2, 3, 8, 8), torch.randn(2), torch.tensor([0, 1])
    hidden = net(x, level, Cond(label=label, hidden={"label": torch.tensor([True, False])}))
    torch.testing.assert_close(hidden[0], net(x, level)[0])
    torch.testing.assert_close(hidden[1], net(x, level, Cond(label=label))[1])


@pytest.mark.parametrize("design", BLOCKS)
def test_checkpointed_gradients_are_the_plain_ones(design, seeded):
    plain, found = awake(tiny(design=design, dropout=0.3)), []
    for checkpoint in (False, True):
        net = tiny(design=design, dropout=0.3, checkpoint=checkpoint)
        net.load_state_dict(plain.state_dict())
        torch.manual_seed(5)
        net(torch.linspace(-1, 1, 384).reshape(2, 3, 8, 8), torch.tensor([0.5, -1])).square().mean().backward()
        found.append([p.grad for p in net.parameters()])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_bfloat16_inside_stays_near_float32(seeded):
    full, half = awake(tiny(qk_norm=True)), tiny(qk_norm=True, bf16=True)
    half.load_state_dict(full.state_dict())
    x, level = torch.randn(4, 3, 8, 8), torch.randn(4)
    assert 0 < (half(x, level) - full(x, level)).norm() / full(x, level).norm() < 0.03


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: tiny()(torch.zeros(1, 3, 7, 8), torch.zeros(1)), "patches of 2 x 2 .* multiples of 2, such as 8 x 8"),
        (lambda: tiny(patch=8)(torch.zeros(1, 3, 28, 28), torch.zeros(1)), "multiples of 8, such as 32 x 32"),
        (lambda: tiny()(torch.zeros(1, 1, 8, 8), torch.zeros(1)), "of 3 channels, not for"),
        (lambda: DiT(1, Size(10, 1, 2)), "multiple of its 2 heads and of 4, not 10"),
        (lambda: DiT(1, Size(16, 1, 3)), "multiple of its 3 heads and of 4, not 16"),
        (lambda: tiny(design="adaln"), "no design 'adaln' .* adaln-zero, in-context, cross-attention"),
        (lambda: tiny()(torch.zeros(1, 3, 8, 8), torch.zeros(1), Cond(text=torch.zeros(1, 2, 3))), "without texts"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def copied(peer, net):
    """The weights of diffusers' DiTTransformer2DModel for a DiT of ours, by the names of ours."""
    state = peer.state_dict()

    def layer(ours, *theirs):
        for kind in ("weight", "bias"):
            yield f"{ours}.{kind}", torch.cat([state[f"{name}.{kind}"] for name in theirs])

    first = "transformer_blocks.0.norm1.emb."
    found = {"enter.weight": state["pos_embed.proj.weight"].flatten(1), "enter.bias": state["pos_embed.proj.bias"]}
    found["condition.label.weight"] = state[first + "class_embedder.embedding_table.weight"]
    found |= layer("condition.body.0", first + "timestep_embedder.linear_1")
    found |= layer("condition.body.2", first + "timestep_embedder.linear_2")
    for i in range(len(net.blocks)):
        at = f"transformer_blocks.{i}."
        found |= layer(f"blocks.{i}.modulation", at + "norm1.linear")
        found |= layer(f"blocks.{i}.attend.qkv", *(at + f"attn1.to_{name}" for name in "qkv"))
        found |= layer(f"blocks.{i}.attend.leave", at + "attn1.to_out.0")
        found |= layer(f"blocks.{i}.mlp.0", at + "ff.net.0.proj")
        found |= layer(f"blocks.{i}.mlp.2", at + "ff.net.2")
    found |= layer("head.modulation", "proj_out_1")
    for kind, value in layer("head.leave", "proj_out_2"):  # their rows are pixel, then channel
        found[kind] = value.unflatten(0, (net.patch**2, -1)).transpose(0, 1).flatten(0, 1)
    return found


def test_the_output_is_that_of_diffusers_network_with_the_same_weights(seeded):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e '.[bench-unet]'.")
    peer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=3, out_channels=6, num_layers=2, sample_size=8,
        num_embeds_ada_norm=10, norm_eps=1e-6,
    ).eval()  # fmt: skip
    for p in peer.parameters():
        torch.nn.init.normal_(p, std=0.2)
    shared = peer.transformer_blocks[0].norm1.emb.state_dict()  # each block has its own copy of the embedding
    for block in peer.transformer_blocks:
        block.norm1.emb.load_state_dict(shared)
    net = DiT(3, TINY, classes=10, outputs=2, features=lambda t: index_waves(t, 256, shift=1)).eval()
    net.load_state_dict(copied(peer, net))
    x, t, label = torch.randn(3, 3, 8, 8), torch.tensor([0, 17, 999]), torch.tensor([0, 9, 10])
    cond = Cond(label=label.clamp(max=9), hidden={"label": label == 10})
    with torch.no_grad():
        expected = peer(x, timestep=t, class_labels=label).sample
        torch.testing.assert_close(net(x, t, cond), expected, rtol=1e-5, atol=1e-5)
