"""The U-Net's options: AdaGN as it is written, zero at first, checkpointing, conditions and their nulls, sizes."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lightning_modules.conditions import Cond
from lightning_modules.draws import Draws
from lightning_modules.dropout import Dropout
from lightning_modules.nets.attention import attend
from lightning_modules.nets.dit import DiT, Size
from lightning_modules.nets.embed import index_waves, resized
from lightning_modules.nets.patches import patchify, unpatchify
from lightning_modules.nets.residual import Residual, double, halve
from lightning_modules.nets.unet import AttentionBlock, UNet
from tests.lightning_modules.nets.awake import awake

HALF = 0.5**0.5
OPTIONS = {
    "plain": {},
    "AdaGN": {"scale_shift": True},
    "residual up and down": {"residual_resampling": True},
    "heads by count": {"heads": 2, "attention": (0, 1)},
    "no attention": {"head": 0},
    "scaled sums": {"residual_scale": HALF},
    "scaled skips": {"skip_scale": HALF},
    "blocks by level": {"multiples": (1, 2, 2), "blocks": (1, 3, 2)},
    "efficient": {"early": True, "skip_scale": HALF, "blocks": (1, 2)},
    "efficient, residual up and down": {"early": True, "residual_resampling": True, "patch": 2},
    "learned variance": {"outputs": 2},
    "patch": {"patch": 2},
    "patch of 4, one level": {"patch": 4, "multiples": (2,), "attention": ()},
    "index": {"features": lambda t: index_waves(t, 8)},
    "ADM": {
        "scale_shift": True, "residual_resampling": True, "head": 4, "multiples": (1, 2, 3), "attention": (1, 2), "blocks": 3,
        "outputs": 2, "classes": 5,
    },
    "everything": {
        "scale_shift": True, "residual_resampling": True, "residual_scale": HALF, "skip_scale": HALF, "blocks": (2, 1),
        "patch": 2, "outputs": 2, "classes": 4, "text": 6, "vector": 5, "vector_tokens": 3, "image": 2, "numbers": 2, "bf16": True,
        "dropout": 0.2,
    },
}  # fmt: skip


def small(channels=3, **options):
    return UNet(channels, **{"width": 8, "multiples": (1, 2), "blocks": 1, "head": 8, "attention": (1,), **options})


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("case", OPTIONS)
def test_every_option_is_zero_at_first_has_its_shape_and_uses_every_weight(case, checkpoint, seeded):
    net = small(**OPTIONS[case], checkpoint=checkpoint)
    x, level = torch.randn(2, 3, 8, 16), torch.randn(2)
    shape = (2, 3 * OPTIONS[case].get("outputs", 1), 8, 16)
    assert net(x, level).shape == shape
    assert (net(x, level) == 0).all()
    awake(net)
    out = sum(net(x, level, cond).square().mean() for cond in (Cond(), whole(net)))
    out.backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def whole(net):
    """Conditions of two examples in every place that the net has."""
    rng, fields = torch.Generator().manual_seed(1), {}
    sizes = {
        "label": (2,), "text": (2, 4, 6), "mask": (2, 4), "vector": (2, 5), "image": (2, 2, 4, 4), "numbers": (2, 2),
    }  # fmt: skip
    for name in net.condition.allowed:
        fields[name] = torch.randn(sizes[name], generator=rng)
    if "label" in fields:
        fields["label"] = torch.tensor([1, 3])
    if "text" in fields:
        fields["mask"] = torch.tensor([[True, True, False, False], [True, True, True, False]])
    return Cond(**fields)


def everything(**options):
    return awake(small(**{**OPTIONS["everything"], "bf16": False, "dropout": 0.0, **options})).eval()


def test_adagn_is_the_formula(seeded):
    block = awake(Residual(4, 8, 6, 0.0, scale_shift=True)).double()
    x, vector = torch.randn(2, 4, 6, 6).double(), torch.randn(2, 6).double()
    h = block.conv1(F.silu(F.group_norm(x, block.norm1.num_groups, block.norm1.weight, block.norm1.bias)))
    scale = vector @ block.condition.weight[:8].T + block.condition.bias[:8]
    shift = vector @ block.condition.weight[8:].T + block.condition.bias[8:]
    groups = h.reshape(2, block.norm2.num_groups, -1)
    unit = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    unit = unit.reshape(h.shape) * block.norm2.weight[:, None, None] + block.norm2.bias[:, None, None]
    h = unit * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    expected = block.skip(x) + block.conv2(F.silu(h))
    torch.testing.assert_close(block(x, vector), expected)


def test_the_default_adds_the_vector_after_the_first_convolution(seeded):
    block = awake(Residual(4, 8, 6, 0.0))
    x, vector = torch.randn(2, 4, 6, 6), torch.randn(2, 6)
    h = block.conv1(F.silu(block.norm1(x))) + block.condition(vector)[:, :, None, None]
    torch.testing.assert_close(block(x, vector), block.skip(x) + block.conv2(F.silu(block.norm2(h))))


@pytest.mark.parametrize("resize", [halve, double])
def test_a_residual_block_that_resizes_is_at_first_the_resizing_alone(resize, seeded):
    block = Residual(4, 4, 6, 0.0, resize=resize, scale=0.5)
    x, vector = torch.randn(2, 4, 6, 6), torch.randn(2, 6)
    torch.testing.assert_close(block(x, vector), resize(x) * 0.5)
    out = awake(block)(x, vector)
    assert out.shape == resize(x).shape
    h = block.conv1(resize(F.silu(block.norm1(x)))) + block.condition(vector)[:, :, None, None]
    torch.testing.assert_close(out, (resize(x) + block.conv2(F.silu(block.norm2(h)))) / 2)


def test_halving_and_doubling():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert halve(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(halve(double(x)), x)


def test_a_scaled_sum_is_the_sum_times_its_factor(seeded):
    block, scaled = Residual(8, 8, 4, 0.0), Residual(8, 8, 4, 0.0, scale=HALF)
    scaled.load_state_dict(awake(block).state_dict())
    x, vector = torch.randn(2, 8, 6, 6), torch.randn(2, 4)
    torch.testing.assert_close(scaled(x, vector), block(x, vector) * HALF)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpointed_gradients_are_the_plain_ones(dropout, seeded):
    found = []
    plain = everything(dropout=dropout).train()
    for checkpoint in (False, True):
        net = everything(dropout=dropout, checkpoint=checkpoint).train()
        net.load_state_dict(plain.state_dict())
        torch.manual_seed(3)
        x = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8).requires_grad_()
        out = net(x, torch.tensor([-1.0, 2.0]), whole(net))
        out.square().mean().backward()
        found.append([out.detach(), x.grad, *(p.grad for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("build", [everything, lambda **options: awake(DiT(3, Size(16, 2, 2), image=2, **options))])
def test_what_is_recomputed_drops_the_same_by_the_models_draws(build, seeded):
    """The backward pass of a checkpointed network repeats the draws of its forward pass and leaves no trace in their count."""
    plain, found = build(dropout=0.5).train(), []
    for checkpoint in (False, True):
        net, draws = build(dropout=0.5, checkpoint=checkpoint).train(), Draws(1, 2)
        net.load_state_dict(plain.state_dict())
        for layer in net.modules():
            if isinstance(layer, Dropout):
                layer.draws = draws
        out = net(torch.linspace(-1, 1, 384).reshape(2, 3, 8, 8), torch.tensor([0.5, -1.0]), whole(net))
        count = draws.count
        out.square().mean().backward()
        assert draws.count == count > 0
        found.append([out.detach(), *(p.grad for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_masked_tokens_are_ignored_and_the_others_are_not(seeded):
    net = everything(vector_tokens=0)
    cond = whole(net)
    text = cond.text.clone().requires_grad_()
    fields = {**cond.given, "text": text}
    net(torch.randn(2, 3, 8, 8), torch.zeros(2), Cond(**fields)).square().sum().backward()
    assert (text.grad[~cond.mask] == 0).all()
    assert (text.grad[cond.mask].abs().sum(-1) > 0).all()


def test_attention_with_a_mask_is_attention_over_the_keys_that_count(seeded):
    q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=torch.float64)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[:, 5:] = False
    torch.testing.assert_close(attend(q, k, v, mask), attend(q, k[:, :, :5], v[:, :, :5]))


def test_without_tokens_that_count_an_image_attends_to_itself(seeded):
    net = everything(vector_tokens=0)
    cond = whole(net)
    none = Cond(**{**cond.given, "mask": torch.zeros(2, 4, dtype=torch.bool)})
    out = net(torch.randn(2, 3, 8, 8), torch.zeros(2), none)
    assert out.isfinite().all()


@pytest.mark.parametrize("name", ["label", "text", "vector", "image", "numbers"])
def test_a_hidden_condition_is_an_absent_one_and_a_given_one_matters(name, seeded):
    net = everything()
    cond, x, level = whole(net), torch.randn(2, 3, 8, 8), torch.randn(2)
    hidden = net(x, level, cond.hiding({name: torch.tensor([True, False])}))
    given, absent = net(x, level, cond), net(x, level, without(cond, name))
    torch.testing.assert_close(hidden[0], absent[0])
    torch.testing.assert_close(hidden[1], given[1])
    assert not torch.allclose(given[0], absent[0])


def without(cond, name):
    return cond.without("text", "mask") if name == "text" else cond.without(name)


def test_a_joined_image_changes_its_own_example_alone(seeded):
    net = everything()
    cond, x, level = whole(net), torch.randn(2, 3, 8, 8), torch.randn(2)
    image = cond.image.clone()
    image[0, 1, 2, 2] += 1
    before, after = net(x, level, cond), net(x, level, Cond(**{**cond.given, "image": image}))
    assert not torch.allclose(before[0], after[0])
    torch.testing.assert_close(before[1], after[1])
    torch.testing.assert_close(before, net(x, level, Cond(**{**cond.given, "image": resized(cond.image, 8, 8)})))


def test_a_joined_image_changes_the_pixels_that_it_covers(seeded):
    """Of the network's first convolution, which mixes neighbours; later layers reach the whole image."""
    net = small(image=1)
    x, image = torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    marked = image.clone()
    marked[0, 0, 2, 5] = 1
    first, second = (net.enter(net.join(x, Cond(image=i))) for i in (image, marked))
    changed = (first != second).any(1)[0].nonzero()
    assert changed.amin(0).tolist() == [1, 4] and changed.amax(0).tolist() == [3, 6]
    joined = net.join(x, Cond(image=marked))
    assert torch.equal(joined[:, :3], x) and torch.equal(joined[:, 3:], marked)


@pytest.mark.parametrize(("h", "w"), [(4, 4), (16, 32), (8, 8), (8, 4)])
def test_a_constant_image_stays_constant_at_every_size(h, w):
    torch.testing.assert_close(resized(torch.full((1, 2, h, w), 0.3), 8, 16), torch.full((1, 2, 8, 16), 0.3))


@pytest.mark.parametrize(("side", "shape"), [(1, (2, 3, 5, 7)), (2, (2, 3, 4, 6)), (4, (1, 1, 8, 4))])
def test_patches_come_back_as_the_image(side, shape, seeded):
    x = torch.randn(shape)
    rows = patchify(x, side)
    assert rows.shape == (shape[0], shape[2] * shape[3] // side**2, shape[1] * side**2)
    assert torch.equal(rows[:, 0], x[:, :, :side, :side].flatten(1))
    assert torch.equal(unpatchify(rows, side, *shape[2:]), x)


@pytest.mark.parametrize(
    ("cond", "message"),
    [
        ({"label": torch.zeros(2, dtype=torch.long)}, "built without labels"),
        ({"text": torch.zeros(2, 3, 6)}, "built without texts"),
        ({"vector": torch.zeros(2, 3)}, "built without vectors"),
        ({"image": torch.zeros(2, 3, 8, 8)}, "built without images"),
        ({"numbers": torch.zeros(2, 3)}, "built without numbers"),
        ({"control": torch.zeros(2, 3, 8, 8)}, "built without controls"),
    ],
)
def test_conditions_without_a_place_are_refused(cond, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.zeros(2, 3, 8, 8), torch.zeros(2), Cond(**cond))


@pytest.mark.parametrize(
    ("cond", "message"),
    [
        ({"text": torch.zeros(2, 3, 7)}, "a condition 'text' of 6 features, not 7"),
        ({"vector": torch.zeros(2, 6)}, "a condition 'vector' of 5 features, not 6"),
        ({"image": torch.zeros(2, 3, 8, 8)}, "a condition 'image' of 2 channels, not 3"),
        ({"numbers": torch.zeros(2, 1)}, "a condition 'numbers' of 2 features, not 1"),
        ({"vector": torch.zeros(1, 5)}, "got 2 examples, but conditions of 1"),
    ],
)
def test_conditions_of_another_size_are_refused(cond, message):
    with pytest.raises(ValueError, match=message):
        everything()(torch.zeros(2, 3, 8, 8), torch.zeros(2), Cond(**cond))


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"multiples": (1, 2, 2)}, (1, 3, 6, 8), "halves images 2 times .* multiples of 4, such as 8 x 8"),
        ({"patch": 3}, (1, 3, 32, 32), "channels of 3 x 3 pixels.* multiples of 6, such as 30 x 30"),
        ({}, (1, 3, 1, 9), "multiples of 2, such as 2 x 8"),
        ({}, (1, 1, 8, 8), "of 3 channels, not for"),
        ({}, (8, 8), "of 3 channels, not for"),
    ],
)
def test_images_that_do_not_fit_get_one_sentence(options, shape, message):
    with pytest.raises(ValueError, match=message):
        small(**options)(torch.zeros(shape), torch.zeros(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "16 channels cannot be divided into 3 heads"),
        ({"width": 10, "head": 3}, "20 channels cannot be divided into 6 heads"),
        ({"blocks": (1, 2, 3)}, "'blocks' .* must be at least 1 for each of the 2 'multiples'"),
        ({"blocks": 0}, "'blocks' 0 must be at least 1"),
        ({"vector_tokens": 2}, "give the number of its features"),
    ],
)
def test_options_that_do_not_fit_get_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def flop(net):
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, 16, 16), torch.zeros(1))
    return counter.get_total_flops()


def test_blocks_of_the_efficient_net_work_at_half_of_the_size():
    """Halving comes first and doubling last, so that every block of two resolutions has a quarter of the pixels."""
    sizes = {}
    for early in (False, True):
        net, found = small(early=early, blocks=2), []
        for part in [*net.down, *net.middle, *net.up]:
            if isinstance(part, AttentionBlock):
                part.register_forward_hook(lambda part, given, out, found=found: found.append(out.shape[3]))
        net(torch.zeros(1, 3, 16, 16), torch.zeros(1))
        sizes[early] = found
    assert sizes[False] == [16, 16, 8, 8, 8, 8, 8, 8, 8, 16, 16, 16]
    assert sizes[True] == [size // 2 for size in sizes[False]]
    assert flop(small(early=True, blocks=2)) < 0.35 * flop(small(blocks=2))


def test_an_image_that_cannot_be_halved_so_often_is_refused_by_the_efficient_net():
    with pytest.raises(ValueError, match="halves images 2 times"):
        small(early=True).check((3, 6, 8))
    small().check((3, 6, 8))
