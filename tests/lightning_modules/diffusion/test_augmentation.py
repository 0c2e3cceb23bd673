"""EDM's augmentation: each change against a case that is known exactly, its labels, and the network that is given them."""

import math

import pytest
import torch

from lightning_modules.conditions import Cond
from lightning_modules.diffusion.augmentation import LABELS, Augmentation, Changes, applied, drawn
from lightning_modules.diffusion.models.edm import edm
from lightning_modules.draws import Draws
from lightning_modules.nets.unet import UNet


def images(n=4, size=8, channels=3):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(0))


def unchanged(n=4):
    none, zero = torch.zeros(n, dtype=torch.bool), torch.zeros(n)
    return Changes(none, none, zero, zero, zero, zero, zero, zero)


def changed(n=4, **to):
    return unchanged(n)._replace(**{name: torch.full((n,), value) for name, value in to.items()})


def near(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_probability_zero_changes_no_bit():
    x = images()
    found, cond = Augmentation(0.0)(x, Cond(), Draws(1, 2))
    assert torch.equal(found, x) and torch.equal(cond.numbers, torch.zeros(4, LABELS))


def test_what_is_not_changed_keeps_its_bits_beside_what_is():
    x = images()
    one = unchanged()._replace(scale=torch.tensor([0.0, 1.5, 0.0, 0.0]))
    found = applied(x, one)
    assert torch.equal(found[[0, 2, 3]], x[[0, 2, 3]]) and not torch.allclose(found[1], x[1], atol=0.01)


def test_flips_are_exact():
    x = images()
    assert torch.equal(applied(x, changed(mirrored=True)), x.flip(3))
    assert torch.equal(applied(x, changed(upturned=True)), x.flip(2))


@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
@pytest.mark.parametrize("size", [7, 8])
def test_a_quarter_turn_is_exact(quarters, size):
    x = images(size=size)
    near(applied(x, changed(angle=quarters * math.pi / 2)), x.rot90(quarters, (2, 3)))


@pytest.mark.parametrize(("right", "down"), [(2, 0), (0, -1), (3, 5)])
def test_a_shift_by_whole_pixels_is_exact_and_reflects_at_the_edge(right, down):
    """Shifts are in eighths of the size, and the images have 8 pixels."""
    x = images()
    wide = torch.nn.functional.pad(x, (6, 6, 6, 6), mode="reflect")
    near(
        applied(x, changed(right=float(right), down=float(down))),
        wide[:, :, 6 - down : 14 - down, 6 - right : 14 - right],
    )


def test_a_scale_of_two_reads_every_half_pixel():
    """2^(0.2 * 5) = 2 about the centre: of 9 pixels, each second of the result is one of the image."""
    x = images(size=9)
    near(applied(x, changed(scale=5.0))[:, :, ::2, ::2], x[:, :, 2:7, 2:7])


@pytest.mark.parametrize(("axis", "swapped"), [(0.0, False), (math.pi / 2, True)])
def test_a_stretch_of_two_enlarges_along_its_axis_and_shrinks_across(axis, swapped):
    """Of an image that is constant along an axis, only the other one shows."""
    ramp = torch.arange(9.0).expand(1, 1, 9, 9)
    along = ramp.mT if swapped else ramp
    near(applied(along, changed(1, stretch=5.0, axis=axis)).squeeze(), (along / 2 + 2).squeeze())
    inner = (slice(None), slice(None), slice(3, 6), slice(3, 6))
    near(applied(along.mT, changed(1, stretch=5.0, axis=axis))[inner], (2 * along.mT - 4)[inner])


def test_changes_follow_one_another_in_their_order():
    """Turned, then shifted: not shifted, then turned."""
    x = images()
    both = applied(x, changed(angle=math.pi / 2, right=2.0))
    near(both, applied(applied(x, changed(angle=math.pi / 2)), changed(right=2.0)))
    near(applied(x, changed(mirrored=True, angle=math.pi / 2)), x.flip(3).rot90(1, (2, 3)))
    ramp = torch.arange(9.0).expand(1, 1, 9, 9)
    turned = applied(ramp, changed(1, angle=math.pi / 2))
    near(applied(ramp, changed(1, angle=math.pi / 2, stretch=-5.0)), applied(turned, changed(1, stretch=-5.0)))


def test_labels_are_the_parameters():
    """Those of the authors' code: flips, scale, turn as cos - 1 and sin, stretch along its axis, shift."""
    found = Changes(*(torch.tensor([v]) for v in (True, False, 0.5, 0.3, -1.2, 0.7, 1.1, -0.4))).labels
    expected = [1, 0, 0.5, math.cos(0.3) - 1, math.sin(0.3), -1.2 * math.cos(0.7), -1.2 * math.sin(0.7), 1.1, -0.4]
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_each_change_is_made_as_often_as_asked_and_by_the_law_of_the_paper():
    """Within 5 standard errors, of about 20 numbers: a false alarm once in 100,000."""
    n, p = 40_000, 0.3
    found = drawn(n, p, Draws(3))

    def agree(mean, expected, deviation, count=n):
        assert abs(mean.item() - expected) < 5 * deviation / count**0.5

    for share, of in ((0.5, found.mirrored), (p / 2, found.upturned), (0.5, found.axis != 0)):
        agree(of.float().mean(), share, (share * (1 - share)) ** 0.5)
    made = [found.scale, found.angle, found.stretch, found.right]
    for change in made:
        agree((change != 0).float().mean(), p, (p * (1 - p)) ** 0.5)
    assert torch.equal(found.right != 0, found.down != 0)
    both = (found.scale != 0) & (found.angle != 0)
    agree(both.float().mean(), p**2, (p**2 * (1 - p**2)) ** 0.5)
    for normal in (found.scale, found.stretch, found.right, found.down):
        own = normal[normal != 0]
        agree(own.square().mean(), 1, 2**0.5, len(own))
    own = found.angle[found.angle != 0] / math.pi
    agree(own.square().mean(), 1 / 3, (4 / 45) ** 0.5, len(own))


def test_two_workers_change_images_as_one_does():
    x, augment = images(8), Augmentation(0.5)

    def changed(x, draws):
        found, cond = augment(x, Cond(), draws)
        return found, cond.numbers

    whole = changed(x, Draws(1, 2))
    parts = [changed(half, Draws(1, 2, part, 2)) for part, half in enumerate(x.chunk(2))]
    for one, two in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(two))
    assert whole[1].any()


class Seeing(UNet):
    """A U-Net that keeps the numbers that it was given."""

    def forward(self, x, level, cond):
        self.seen = cond.numbers
        return super().forward(x, level, cond)


def test_the_network_learns_from_changed_images_with_labels_and_draws_with_zeros(seeded):
    net = Seeing(1, width=8, multiples=(1, 2), blocks=1, head=8, numbers=LABELS, classes=2)
    model = edm(net, (1, 8, 8), augment=0.9, label_drop=0.1, steps=2)
    x, label, model.draws = images(6, channels=1), torch.tensor([0, 1] * 3), Draws(4, 5)
    loss = model.losses({"x": x, "label": label})["denoising"]
    again = Draws(4, 5)
    changed, given = Augmentation(0.9)(x, Cond(), again)
    numbers = given.numbers
    assert torch.equal(net.seen, numbers) and numbers.any()
    sigma = model.learn.levels(again.uniform(6))
    y = changed + sigma[:, None, None, None] * again.normal(*x.shape)
    hidden = {"label": again.uniform(6) < 0.1}
    answer = model.denoiser(Cond(label=label, numbers=numbers, hidden=hidden))(y, sigma)
    error = (answer - changed).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, (model.learn.weight(sigma) * error).mean())
    model.sample(4, torch.tensor([0, 1, 0, 1]), guidance=1.0)
    assert torch.equal(net.seen, torch.zeros(4, LABELS))
    model.log_prob(x.clamp(-1, 1), terms=1)
    assert torch.equal(net.seen, torch.zeros(6, LABELS))


def test_a_model_without_augmentation_draws_the_same_random_numbers_as_before(seeded):
    """Levels first, then noise."""
    net = Seeing(1, width=8, multiples=(1, 2), blocks=1, head=8)
    model, x = edm(net, (1, 8, 8)), images(6, channels=1)
    model.draws, again = Draws(4, 5), Draws(4, 5)
    loss = model.losses({"x": x})["denoising"]
    sigma = model.learn.levels(again.uniform(6))
    y = x + sigma[:, None, None, None] * again.normal(*x.shape)
    error = (model.denoiser()(y, sigma) - x).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, (model.learn.weight(sigma) * error).mean())
    assert net.seen is None


def test_a_probability_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"is 1.2; it must be in \[0, 1\]"):
        Augmentation(1.2)
