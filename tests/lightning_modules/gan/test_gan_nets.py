"""Networks of adversarial models against the definitions of their parts."""

import pytest
import torch

from lightning_modules.nets.adversarial import (
    MinibatchDiscrimination,
    VirtualBatchNorm,
    dense_discriminator,
    dense_generator,
)
from lightning_modules.nets.gan_resnet import residual_discriminator, residual_generator
from lightning_modules.nets.strided import strided_discriminator, strided_generator

DOUBLE = torch.float64


@pytest.mark.parametrize("shape", [(5,), (5, 3, 2)])
def test_virtual_batch_norm_is_by_the_reference_and_the_example_itself(shape):
    torch.manual_seed(0)
    layer, h = VirtualBatchNorm(5, 4).double(), torch.randn(7, *shape, dtype=DOUBLE) * 2 + 1
    with torch.no_grad():
        layer.scale.normal_(), layer.shift.normal_()
    out, axes = layer(h), [0, *range(2, h.ndim)]

    def normalised(one, among):
        mean, var = among.mean(axes, keepdim=True), among.var(axes, unbiased=False, keepdim=True)
        gain, shift = (p.reshape(1, -1, *[1] * (h.ndim - 2)) for p in (layer.scale, layer.shift))
        return (one - mean) / (var + 1e-5).sqrt() * gain + shift

    torch.testing.assert_close(out[:4], normalised(h[:4], h[:4]))
    for i in range(4, 7):
        torch.testing.assert_close(out[i : i + 1], normalised(h[i : i + 1], torch.cat([h[:4], h[i : i + 1]])))


def test_with_a_reference_batch_an_example_does_not_see_the_others():
    torch.manual_seed(0)
    net = dense_generator(3, (2,), kind="virtual", reference=8).double()
    z = torch.randn(5, 3, dtype=DOUBLE)
    torch.testing.assert_close(torch.cat([net(one[None]) for one in z]), net(z))
    plain = dense_generator(3, (2,), kind="batch").double()
    assert not torch.allclose(plain(z[:2]), plain(z)[:2])


def test_minibatch_discrimination_is_its_sum_over_pairs():
    torch.manual_seed(0)
    layer, h = MinibatchDiscrimination(4, 3, 2).double(), torch.randn(6, 4, dtype=DOUBLE)
    out = layer(h)
    assert torch.equal(out[:, :4], h)
    for i in range(6):
        for b in range(3):
            m = h @ layer.project[:, b]
            near = sum((-(m[i] - m[j]).abs().sum()).exp() for j in range(6))
            torch.testing.assert_close(out[i, 4 + b], near)


def test_a_discriminator_works_on_features():
    net = dense_discriminator((2, 2), kernels=4)
    x = torch.randn(6, 2, 2)
    assert net.features(x).shape == (6, 128) and net(x).shape == (6,)
    assert not torch.allclose(net(x)[:3], net(x[:3]))
    with pytest.raises(ValueError, match="no normalisation 'layer'"):
        dense_discriminator((2,), kind="layer")


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 5, 9), (3, 7, 50)])
@pytest.mark.parametrize("kind", ["none", "batch", "virtual"])
def test_strided_nets_take_images_of_any_size(shape, kind):
    generator = strided_generator(6, shape, width=4, kind=kind, reference=3)
    discriminator = strided_discriminator(shape, width=4, kind=kind, kernels=2, reference=3)
    x = generator(torch.randn(5, 6))
    assert x.shape == (5, *shape) and x.abs().max() <= 1
    assert discriminator(x).shape == (5,)
    discriminator(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.layers[0].parameters())


def test_strided_nets_begin_small():
    """Weights from N(0, 0.02), within 5 standard errors of the deviation: a false alarm once in a million."""
    torch.manual_seed(0)
    kernel = strided_discriminator((3, 32, 32)).body.layers[3].weight
    assert kernel.std().item() == pytest.approx(0.02, abs=5 * 0.02 / (2 * kernel.numel()) ** 0.5)


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_what_is_no_larger_image_is_refused(shape):
    with pytest.raises(ValueError, match="higher or wider than 4 pixels"):
        strided_generator(6, shape)


@pytest.mark.parametrize("side", [8, 16, 32])
def test_residual_nets(side):
    shape = (3, side, side)
    x = residual_generator(6, shape, width=4)(torch.randn(5, 6))
    discriminator = residual_discriminator(shape, width=4)
    assert x.shape == (5, *shape) and x.abs().max() <= 1
    torch.testing.assert_close(torch.cat([discriminator(one[None]) for one in x]), discriminator(x))
    assert discriminator.body.layers[:-1](x).shape[2] == min(8, side // 2)


def test_residual_nets_of_the_paper_have_its_sizes():
    """Appendix F: 128 channels, three blocks up from 4x4; two blocks down and two more."""
    parts = residual_generator(128, (3, 32, 32)), residual_discriminator((3, 32, 32))
    up = 2 * (128 * 128 * 9 + 128) + 2 * 2 * 128 + 128 * 128 + 128
    expected = 129 * 2048 + 3 * up + 2 * 128 + 128 * 3 * 9 + 3
    assert sum(p.numel() for p in parts[0].parameters()) == expected
    with pytest.raises(ValueError, match="S one of 8, 16, 32"):
        residual_discriminator((3, 28, 28))
