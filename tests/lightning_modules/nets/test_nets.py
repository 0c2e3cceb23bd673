"""Networks: shapes, zero at first, every weight used, clear refusals."""

import pytest
import torch

from lightning_modules.conditions import Cond
from lightning_modules.draws import Draws
from lightning_modules.dropout import Dropout
from lightning_modules.nets.attention import attend
from lightning_modules.nets.embed import waves
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.nets.unet import UNet
from tests.lightning_modules.nets.awake import awake


def small(channels=1, **options):
    return UNet(channels, width=8, blocks=1, head=8, **{"multiples": (1, 2), "attention": (1,), **options})


CASES = {
    "digits": (lambda: small(), (1, 8, 8)),
    "colour": (lambda: small(3, multiples=(1, 2, 2), attention=(0, 2)), (3, 32, 32)),
    "one level, oblong": (lambda: small(2, multiples=(1,), attention=()), (2, 5, 7)),
    "two blocks, odd width": (lambda: UNet(1, width=10, multiples=(1, 3), blocks=2), (1, 6, 4)),
    "bfloat16": (lambda: small(bf16=True), (1, 8, 8)),
    "mlp": (lambda: ResidualMLP((3, 2), width=16, depth=2), (3, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_output_is_zero_at_first_and_has_the_shape_of_the_input(case, seeded):
    build, shape = CASES[case]
    x = torch.randn(2, *shape)
    y = build()(x, torch.zeros(2))
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert (y == 0).all()


@pytest.mark.parametrize("case", CASES)
def test_gradient_reaches_every_weight(case, seeded):
    build, shape = CASES[case]
    net = awake(build())
    net(torch.randn(4, *shape), torch.randn(4)).square().mean().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


@pytest.mark.parametrize("build", [lambda: small(classes=3), lambda: ResidualMLP((1, 8, 8), width=16, classes=3)])
def test_labels_and_levels_matter_and_examples_do_not_mix(build, seeded):
    net = awake(build()).eval()
    cond = Cond(label=torch.tensor([0, 1, 2]), hidden={"label": torch.tensor([False, False, True])})
    x, level = torch.randn(3, 1, 8, 8), torch.randn(3)
    y = net(x, level, cond)
    assert not torch.allclose(y, net(x, level + 1, cond))
    assert not torch.allclose(y, net(x, level, cond.rows(torch.tensor([2, 1, 0]))))
    torch.testing.assert_close(net(x[1:2], level[1:2], cond.rows(slice(1, 2))), y[1:2])
    torch.testing.assert_close(net(x[2:], level[2:]), y[2:])  # an absent label is a hidden one
    with pytest.raises(ValueError, match=r"Labels must be in 0\.\.2, not 0\.\.3"):
        net(x, level, Cond(label=torch.tensor([0, 1, 3])))
    with pytest.raises(ValueError, match="built without vectors: leave out the condition 'vector'"):
        net(x, level, Cond(vector=torch.zeros(3, 2)))


@pytest.mark.parametrize("build", [lambda: small(), lambda: ResidualMLP((1, 8, 8), width=16)])
def test_networks_without_classes_refuse_labels(build):
    with pytest.raises(ValueError, match="built without labels"):
        build()(torch.zeros(2, 1, 8, 8), torch.zeros(2), Cond(label=torch.tensor([0, 1])))


def test_bfloat16_inside_stays_near_float32(seeded):
    full = awake(small())
    half = small(bf16=True)
    half.load_state_dict(full.state_dict())
    x, level = torch.randn(4, 1, 8, 8), torch.randn(4)
    error = (half(x, level) - full(x, level)).norm() / full(x, level).norm()
    assert 0 < error < 0.03


def test_dropout_acts_in_training_only(seeded):
    net = awake(small(dropout=0.5))
    x, level = torch.randn(2, 1, 8, 8), torch.zeros(2)
    assert not torch.equal(net(x, level), net(x, level))
    net.eval()
    assert torch.equal(net(x, level), net(x, level))


@pytest.mark.parametrize("rate", [0.1, 0.75])
def test_dropout_keeps_the_mean_and_drops_its_share(rate):
    layer = Dropout(rate)
    layer.draws = Draws(3, 4)
    h = layer(torch.ones(200, 500))
    assert (h == 0).double().mean().item() == pytest.approx(rate, abs=0.01)
    assert h.mean().item() == pytest.approx(1, abs=0.02)
    assert h.max().item() == pytest.approx(1 / (1 - rate))


def test_dropout_of_an_example_depends_on_its_row_in_the_global_batch_alone(seeded):
    """The U-Net's answers for a whole batch, and for four slices of it, as four workers compute them."""
    net, x, level = awake(small(dropout=0.5)), torch.randn(8, 1, 8, 8), torch.randn(8)

    def answer(part, parts):
        draws = Draws(1, 2, part, parts)
        for layer in net.modules():
            if isinstance(layer, Dropout):
                layer.draws = draws
        return net(x.chunk(parts)[part], level.chunk(parts)[part])

    torch.testing.assert_close(torch.cat([answer(i, 4) for i in range(4)]), answer(0, 1))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_share_that_cannot_be_dropped_is_refused(rate):
    with pytest.raises(ValueError, match=r"it must be in \[0, 1\)"):
        small(dropout=rate)


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match=r"multiples of 4"):
        small(multiples=(1, 2, 2))(torch.zeros(1, 1, 6, 8), torch.zeros(1))


def test_waves_tell_neighbouring_levels_apart():
    level = torch.linspace(-5, 5, 1000)
    code = waves(level, 32)
    assert code.shape == (1000, 32)
    assert (code[1:] - code[:-1]).norm(dim=1).min() > 0.1
    torch.testing.assert_close(code.square().sum(1), torch.full((1000,), 16.0))


def test_attention_is_that_of_torch(seeded):
    q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(attend(q, k, v), torch.nn.functional.scaled_dot_product_attention(q, k, v))
