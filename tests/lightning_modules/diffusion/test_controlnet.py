"""ControlNet: equal to the frozen network at first, whose gradients arrive and where, what it refuses, what is trained."""

import pytest
import torch

from lightning_modules.conditions import Cond
from lightning_modules.diffusion.models.classifier_free_guidance import classifier_free_guidance
from lightning_modules.diffusion.models.controlnet import ControlNet, controlnet, copy_to, hint_network
from lightning_modules.diffusion.models.edm import edm
from lightning_modules.draws import Draws
from lightning_modules.ema import averaged_weights
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.nets.unet import UNet
from lightning_modules.optim import Adam
from lightning_modules.staged import Stage, Staged
from tests.lightning_modules.nets.awake import awake

SHAPE = (3, 8, 8)


def base(**options):
    made = {"width": 8, "multiples": (1, 2), "blocks": 1, "head": 8, "patch": 2, **options}
    return awake(UNet(3, **made)).requires_grad_(False)


def given(n=4, channels=1, scale=1, **more):
    x, level = torch.randn(n, *SHAPE), torch.randn(n)
    return x, level, Cond(control=torch.rand(n, channels, 8 * scale, 8 * scale), **more)


def moved(*parts):
    """Whether each part has a gradient that is not zero, of every weight and of none."""
    found = [[p.grad is not None and bool(p.grad.abs().sum() > 0) for p in part.parameters()] for part in parts]
    return [all(of) if any(of) else False for of in found], [any(of) for of in found]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"early": True, "multiples": (2,)},
        {"scale_shift": True, "residual_resampling": True, "skip_scale": 0.5},
        {"checkpoint": True},
        {"bf16": True},
    ],
)
def test_it_is_at_first_the_frozen_network_to_the_bit_for_any_control(options, seeded):
    net = ControlNet(base(**options), channels=1, widths=(4, 8))
    x, level, cond = given()
    frozen = net.base(x, level)
    assert frozen.abs().sum() > 0
    for control in (cond.control, 1e6 * cond.control, torch.zeros_like(cond.control)):
        assert torch.equal(net(x, level, Cond(control=control)), frozen)
    assert torch.equal(net(x, level), frozen)
    awake(net.branch)
    assert not torch.allclose(net(x, level, cond), frozen)
    assert torch.equal(net(x, level), frozen)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_reach_the_zero_convolutions_first_then_the_copy_then_the_hint_network(checkpoint, seeded):
    net = ControlNet(base(text=5, classes=3, checkpoint=checkpoint), channels=1, widths=(4, 8))
    x, level, cond = given(label=torch.arange(4) % 3, text=torch.randn(4, 2, 5))
    hidden = {name: torch.tensor([True, False, True, False]) for name in ("label", "text")}
    optimizer = torch.optim.SGD(net.branch.parameters(), 0.1)
    frozen = {name: value.clone() for name, value in net.base.state_dict().items()}
    *first, last = (layer for layer in net.branch.hint if len(list(layer.parameters())))
    parts = [net.branch.zeros, net.branch.copy, last, torch.nn.ModuleList(first)]
    for step in range(3):
        optimizer.zero_grad()
        (net(x, level, cond.hiding(hidden)) - 1).square().mean().backward()
        whole, some = moved(*parts)
        wanted = [True, step > 0, step > 0, step > 1]
        assert whole == wanted and some == wanted, step
        assert all(p.grad is None for p in net.base.parameters())
        optimizer.step()
    assert all(torch.equal(value, frozen[name]) for name, value in net.base.state_dict().items())


def test_the_frozen_way_down_keeps_nothing_for_the_backward_pass(seeded):
    """The weights of the base require a gradient here, as those of an earlier stage do: only those of the way up get one."""
    net = ControlNet(base(), channels=1, widths=(4, 8))
    net.base.requires_grad_()
    x, level, cond = given()
    net(x, level, cond).sum().backward()
    down = [net.base.enter, net.base.down, net.base.middle, net.base.condition]
    assert not any(p.grad is not None for part in down for p in part.parameters())
    assert all(p.grad is not None for p in net.base.up.parameters())


def test_an_input_that_requires_a_gradient_gets_one_through_the_frozen_way_down(seeded):
    net = ControlNet(base().double(), channels=1, widths=(4, 8)).double()
    x, level, cond = given(n=1)
    x = x.double().requires_grad_()
    cond = Cond(control=cond.control.double())
    net(x, level, cond).sum().backward()
    by_base = torch.autograd.grad(net.base(x, level).sum(), x)[0]
    torch.testing.assert_close(x.grad, by_base)


def test_hidden_controls_add_nothing(seeded):
    net = ControlNet(base(), channels=1, widths=(4, 8))
    awake(net.branch)
    x, level, cond = given()
    rows = torch.tensor([True, False, True, False])
    out, frozen = net(x, level, cond.hiding({"control": rows})), net.base(x, level)
    torch.testing.assert_close(out[rows], frozen[rows])
    torch.testing.assert_close(out[~rows], net(x, level, cond)[~rows])


def test_the_hint_network_is_that_of_the_paper_s_code():
    net = hint_network(3, (16, 32, 96, 256), 320)
    convolutions = [layer for layer in net if isinstance(layer, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [16, 16, 32, 32, 96, 96, 256, 320]
    assert [c.stride[0] for c in convolutions] == [1, 1, 2, 1, 2, 1, 2, 1]
    assert net(torch.rand(1, 3, 64, 64)).shape == (1, 320, 8, 8)


def test_a_control_may_be_larger_than_the_latents(seeded):
    net = ControlNet(base(patch=1), channels=3, widths=(4, 4, 8, 8))
    x, level, cond = given(channels=3, scale=8)
    assert net.scale == 8 and net(x, level, cond).shape == x.shape


@pytest.mark.parametrize("shape", [(1, 16, 8), (1, 4, 4), (3, 8, 8)])
def test_a_control_of_another_size_is_refused_in_one_sentence(shape, seeded):
    net = ControlNet(base(), channels=1, widths=(4, 8))
    x, level, _ = given()
    with pytest.raises(ValueError, match=r"takes 1 of 8 x 8\.$"):
        net(x, level, Cond(control=torch.rand(4, *shape)))


def test_networks_that_it_cannot_control_are_refused():
    with pytest.raises(ValueError, match="give more widths"):
        ControlNet(base(patch=4), channels=1, widths=(4, 8))
    with pytest.raises(TypeError, match="U-Net"):
        controlnet(edm(ResidualMLP((2,), width=4, depth=1), (2,)), key="edges", channels=1)


def batch(n=4):
    return {"x": torch.rand(n, *SHAPE) * 2 - 1, "label": torch.arange(n) % 3, "edges": torch.rand(n, 1, 8, 8)}


def controlled(optim, drop=0.5):
    model = classifier_free_guidance(base(classes=3), SHAPE, drop=0.1, reach=4.0, steps=3)
    return controlnet(model, key="edges", channels=1, widths=(4, 8), drop=drop, optim=optim)


def test_only_the_branch_is_trained_and_averaged_and_it_learns_to_follow(seeded):
    model, data = controlled(Adam(1e-2)), batch()
    assert set(averaged_weights(model)) == {n for n, _ in model.named_parameters() if n.startswith("net.branch.")}
    optimizer = model.configure_optimizers()["optimizer"]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.net.branch.parameters()))
    frozen = {name: value.clone() for name, value in model.net.base.state_dict().items()}
    losses = []
    for _ in range(15):
        model.draws = Draws(0, 1)
        optimizer.zero_grad()
        loss = model.losses(data)["noise_mse"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(value, frozen[name]) for name, value in model.net.base.state_dict().items())


def test_guidance_leaves_the_label_out_and_keeps_the_control(seeded):
    model, data = controlled(Adam(1e-2)), batch()
    awake(model.net.branch)
    cond = Cond(label=data["label"], control=data["edges"])
    assert model.hide == {"label": 0.5}
    y, s = torch.randn(4, *SHAPE), torch.full((4,), 0.5)
    without = model.denoiser(cond.without(*model.hide))(y, s)
    assert torch.equal(without, model.denoiser(Cond(control=data["edges"]))(y, s))
    drawn = model.sample(4, cond, guidance=1.0, rng=torch.Generator().manual_seed(0))
    assert drawn.shape == (4, *SHAPE) and drawn.isfinite().all()


def test_a_stage_hands_the_base_s_weights_to_the_branch(seeded):
    first = edm(UNet(3, width=8, multiples=(1,), blocks=1, head=8), SHAPE)
    second = controlnet(first, key="edges", channels=1, widths=(4,))
    model = Staged((Stage("base", first, 0, copy_to("control")), Stage("control", second, 2)))
    assert not any(p.requires_grad for p in first.parameters())
    assert all(p.requires_grad for p in second.net.branch.parameters())
    awake(first.net)
    model.stages[0].hands_on(model)
    for name, weight in second.net.branch.copy.state_dict().items():
        assert torch.equal(weight, first.net.state_dict()[name])
