"""Convolutional networks against convolutions written out, and against the sizes in their sources."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from ray_jobs.rl.networks.nets import ConvNet, ConvStack


def convolved(x, layer):
    """[N, C, H, W] -> [N, F, H', W'] by windows, in float64."""
    k, s = layer.kernel_size[0], layer.stride[0]
    windows = sliding_window_view(x, (k, k), (2, 3))[:, :, ::s, ::s]
    weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    return np.einsum("nchwij,fcij->nfhw", windows, weight) + bias[:, None, None]


def slow(net, image):
    """The whole network on images [N, C, H, W] of 0..255, in numpy."""
    x = image / 255.0
    for layer in net.layers:
        if isinstance(layer, nn.Conv2d):
            x = np.maximum(convolved(x, layer), 0)
    hidden, last = (m for m in net.layers if isinstance(m, nn.Linear))
    x = np.maximum(x.reshape(len(x), -1) @ hidden.weight.detach().double().numpy().T, 0)
    return x @ last.weight.detach().double().numpy().T


@pytest.mark.parametrize("shape", [(4, 10, 10), (3, 3, 7), (2, 40, 37), (1, 35, 90)])
def test_images_go_through_convolutions(shape, seeded):
    """Biases are set off 0 in the convolutions, to be seen; uint8 and float give the same."""
    net = ConvNet(shape, 5)
    for layer in net.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.bias)
    image = torch.randint(256, (3, *shape), dtype=torch.uint8)
    out = net(image)
    torch.testing.assert_close(out.double(), torch.from_numpy(slow(net, image.numpy())), rtol=1e-4, atol=1e-4)
    assert torch.equal(net(image.float()), out)


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_sizes_are_the_sources():
    """Weights and biases counted by hand: 84 x 84 x 4 and 4 actions of Mnih et al., 10 x 10 x 4 and 6 of Young & Tian."""
    atari = (8 * 8 * 4 + 1) * 32 + (4 * 4 * 32 + 1) * 64 + (3 * 3 * 64 + 1) * 64 + (7 * 7 * 64 + 1) * 512
    assert count(ConvNet((4, 84, 84), 4)) == atari + 513 * 4 == 1_686_180
    assert count(ConvNet((4, 10, 10), 6)) == (9 * 4 + 1) * 16 + (8 * 8 * 16 + 1) * 128 + 129 * 6


def test_the_stack_is_chosen_by_the_shorter_side():
    kernels = {
        sides: [m.kernel_size[0] for m in ConvNet((1, *sides), 1).layers if isinstance(m, nn.Conv2d)]
        for sides in ((36, 50), (50, 35), (3, 3))
    }
    assert kernels == {(36, 50): [8, 4, 3], (50, 35): [3], (3, 3): [3]}


def test_images_that_no_convolution_fits_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 10, 2\) are too small"):
        ConvNet((4, 10, 2), 1)


def test_leading_dimensions_are_kept(seeded):
    net, image = ConvNet((2, 10, 8), 3), torch.randint(256, (4, 5, 2, 10, 8), dtype=torch.uint8)
    out = net(image)
    assert out.shape == (4, 5, 3)
    torch.testing.assert_close(out[2, 3], net(image[2, 3]))


def test_an_input_is_left_as_it_was(seeded):
    net, image = ConvNet((1, 5, 5), 1), torch.rand(2, 1, 5, 5)
    before = image.clone()
    net(image)
    assert torch.equal(image, before)


def test_weights_are_orthogonal(seeded):
    """W W^T is the squared gain times the identity, kernels flattened; the last layer's gains are its rows' lengths."""
    net = ConvNet((4, 40, 40), 3, last=[0.01, 0.01, 1.0])
    layers = [m for m in net.layers if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers[:3]:
        w = layer.weight.detach().flatten(1)
        torch.testing.assert_close(w @ w.t(), 2 * torch.eye(len(w)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layers[-1].weight.norm(dim=1), torch.tensor([0.01, 0.01, 1.0]))
    assert all((layer.bias == 0).all() for layer in layers)


def test_the_brightest_is_one(seeded):
    """Channels of 0 and 1 are not divided by 255."""
    net, image = ConvNet((2, 5, 5), 1, top=1.0), torch.randint(2, (3, 2, 5, 5), dtype=torch.uint8)
    wide = ConvNet((2, 5, 5), 1)
    wide.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(image), wide(image * 255))


@pytest.mark.parametrize("shape", [(4, 10, 10), (2, 40, 37)])
def test_a_stack_of_networks_is_each_of_them(shape, seeded):
    """Outputs, and the gradient in each row; one of them alone; and none is like another."""
    stack, images = ConvStack(3, shape, 5), torch.randint(256, (3, 2, *shape), dtype=torch.uint8)
    out, weights = stack(images), torch.randn(3, 2, 5)
    (out * weights).sum().backward()
    for i in range(3):
        net = ConvNet(shape, 5)
        nn.utils.vector_to_parameters(stack.theta.data[i].clone(), net.parameters())
        torch.testing.assert_close(out[i], net(images[i]))
        torch.testing.assert_close(stack(images[i : i + 1], torch.tensor(i))[0], out[i])
        (net(images[i]) * weights[i]).sum().backward()
        expected = nn.utils.parameters_to_vector(p.grad for p in net.parameters())
        torch.testing.assert_close(stack.theta.grad[i], expected)
    assert not torch.equal(stack.theta[0], stack.theta[1])
    assert [name for name, _ in stack.named_parameters()] == ["theta"]
