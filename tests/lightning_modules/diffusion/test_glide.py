"""GLIDE: the contrastive loss at its optimum, the exact CLIP of a mixture as a guide, empty captions, and what is refused."""

import math

import pytest
import torch
from torch import nn

from datamodules.labs.density2d import Density2D, ring
from lightning_modules.conditions import Cond
from lightning_modules.diffusion import guidance, schedules
from lightning_modules.diffusion.clip import CLIP, contrastive
from lightning_modules.diffusion.denoising import of_captions
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.diffusion.models.glide import clip_guided, glide
from lightning_modules.draws import Draws
from lightning_modules.nets.encoders import VectorEncoder
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.nets.text.captioned import Captioned
from lightning_modules.nets.text.transformer import Text, TextTransformer
from lightning_modules.nets.text.vocabulary import Vocabulary
from lightning_modules.nets.unet import UNet
from lightning_modules.optim import AdamW

DOUBLE = torch.float64
TABLE = schedules.linear(50, 2e-3, 0.4)
NAMES = Vocabulary(tuple(f"c{k}" for k in range(8)), 1)
"""A caption of one word for each component of a mixture."""


class Table(nn.Module):
    """Learned features of the examples 0, 1, 2 ... [B, 1], and of captions of one token."""

    def __init__(self, count, features, text=False):
        super().__init__()
        self.rows, self.text, self.width = nn.Embedding(count, features), text, features

    def forward(self, x, level=None):
        found = self.rows(x[:, 0].long())
        return Text(found[:, None], torch.ones_like(x, dtype=torch.bool), found) if self.text else found


COUNTS = torch.tensor([[9, 3, 1, 1], [2, 8, 4, 2], [1, 2, 2, 13]])
"""Of each pair of an example and a caption in a batch of 48."""


def test_the_loss_at_its_optimum_knows_the_log_ratio(seeded):
    """Of a batch with every pair as often as it occurs the best inner products are log p(x, c) / p(x) p(c) and a constant, to 0.02 nats."""
    pairs = COUNTS.nonzero().repeat_interleave(COUNTS[COUNTS > 0], 0)
    model = CLIP(Table(3, 8), Table(4, 8, text=True), features=8, shape=(1,))
    batch = {"x": pairs[:, :1].float(), "caption": pairs[:, 1:]}
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 600)
        optimizer.zero_grad()
        loss = model.losses(batch)["contrastive"]
        loss.backward()
        optimizer.step()
    joint = COUNTS.double() / COUNTS.sum()
    exact = (joint / joint.sum(1, keepdim=True) / joint.sum(0)).log()
    y, cond = torch.arange(3.0).repeat_interleave(4)[:, None], Cond(tokens=torch.arange(4).repeat(3)[:, None])
    with torch.no_grad():
        found = model.log_ratio(y, torch.zeros(12), cond).double().reshape(3, 4)
    gap = found - exact
    assert (gap - (joint * gap).sum()).abs().max() < 0.02
    information = (joint * exact).sum()
    assert loss.item() == pytest.approx(math.log(48) - information.item(), abs=0.002)


def test_the_loss_is_two_cross_entropies_as_they_are_written():
    rng = torch.Generator().manual_seed(0)
    images, captions = torch.randn(2, 6, 4, generator=rng, dtype=DOUBLE)
    logits = 3 * images @ captions.T
    expected = -sum((logits[i, i] - part[i].logsumexp(0)) / 12 for part in (logits, logits.T) for i in range(6))
    found = contrastive((images, captions), (images, captions), 0, torch.tensor(3.0))
    torch.testing.assert_close(found, expected)
    parts = [
        contrastive((images[k : k + 2], captions[k : k + 2]), (images, captions), k, torch.tensor(3.0))
        for k in (0, 2, 4)
    ]
    torch.testing.assert_close(sum(parts) / 3, expected)


# ---- the exact CLIP of a mixture


class ExactImage(nn.Module):
    """log p(y | c) - log p(y) of each component over `reach`, and what is left of the length 1."""

    def __init__(self, density, reach):
        super().__init__()
        self.density, self.reach, self.anchor = density, reach, nn.Parameter(torch.zeros(1, dtype=DOUBLE))

    def forward(self, x, level):
        s = level.exp()
        y = x * (1 + s[:, None] ** 2).sqrt()
        ratio = (self.density.log_label(y, s) - self.density.weight.log()) / self.reach + self.anchor
        return torch.cat([ratio, (1 - ratio.square().sum(1, keepdim=True)).sqrt()], 1)


class OneHot(nn.Module):
    """The caption of a component as a unit vector."""

    width = 9

    def forward(self, tokens):
        rows = torch.nn.functional.one_hot(tokens, 9).double()
        return Text(rows, tokens < 8, rows[:, 0])


class ExactNet(nn.Module):
    """The noise of a mixture."""

    def __init__(self, density):
        super().__init__()
        self.density, self.anchor = density, nn.Parameter(torch.zeros(1, dtype=DOUBLE))

    def forward(self, x, level, cond):
        s = level.exp()
        y = x * (1 + s[:, None] ** 2).sqrt()
        return (y - self.density.denoise(y, s)) / s[:, None] + self.anchor


class Double(CLIP):
    """A CLIP that computes in float64."""

    def of_images(self, y, sigma):
        return self.image(y / (1 + sigma[:, None] ** 2).sqrt(), sigma.log())

    def of_captions(self, tokens):
        return self.text(tokens).vector


def exact(reach=100.0):
    """The CLIP whose inner products are log p(y | c) - log p(y), and the diffusion that it guides."""
    density = ring(8)
    diffusion = ddpm(ExactNet(density), (2,), levels=TABLE, optim=AdamW())
    clip = Double(ExactImage(density, reach), OneHot(), features=9, diffusion=diffusion, optim=AdamW())
    clip.log_factor.data = torch.tensor(math.log(reach), dtype=DOUBLE)
    clip_guided(clip, diffusion, clip_steps=1, steps=2)
    return density, clip, diffusion


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.0])
def test_the_exact_clip_guides_to_the_denoiser_of_the_caption(sigma):
    density, _, diffusion = exact()
    y = density.mean + sigma * torch.randn(8, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    s, label = torch.full((8,), sigma, dtype=DOUBLE), torch.arange(8).roll(1)
    by = guidance.given(diffusion.draw.classifier, Cond(tokens=label[:, None]))
    guided = guidance.classifier_guided(diffusion.denoiser(), by, 1.0)(y, s)
    torch.testing.assert_close(guided, density.denoise_given(y, s, label), rtol=1e-8, atol=1e-8)
    ratio = density.parts(y, s)[0].log_softmax(1)[torch.arange(8), label] - density.weight.log()[label]
    torch.testing.assert_close(by(y, s), ratio)


def test_a_softmax_over_the_prompts_would_guide_elsewhere():
    """Of two prompts the gradient of the softmax is that of one against the other; that of the inner product, against all captions."""
    density, clip, _ = exact()
    y, s = torch.full((2, 2), 0.1, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE)
    tokens = torch.tensor([[0], [1]])
    inner = guidance.gradient(guidance.given(clip.log_ratio, Cond(tokens=tokens)), y, s)

    def softmax(y, s):
        return (clip.factor * clip.of_images(y, s) @ clip.of_captions(tokens).T).log_softmax(1).diagonal()

    assert (guidance.gradient(softmax, y, s) - inner).abs().max() > 0.1
    given = density.denoise_given(y, s, torch.tensor([0, 1])) - density.denoise(y, s)
    torch.testing.assert_close(inner, given)


# ---- a CLIP of weights


def small_clip(**more):
    diffusion = ddpm(ResidualMLP((2,), width=8, depth=1), (2,), levels=TABLE, optim=AdamW(1e-2))
    text = TextTransformer(NAMES, width=16, depth=1, heads=2, causal=True)
    net = VectorEncoder((2,), 16, width=32, depth=1)
    return CLIP(net, text, features=16, diffusion=diffusion, optim=AdamW(5e-3), **more)


def named(batch):
    return batch | {"caption": batch["label"][:, None]}


def test_training_brings_the_noised_clip_near_the_exact_ratio(seeded):
    """Its softmax over the captions is near the exact noisy classifier: below a fifth of what the uniform guess loses."""
    data, model = Density2D(labels=True), small_clip()
    optimizer = model.configure_optimizers()["optimizer"]
    for step in range(250):
        model.draws = Draws(0, step)
        optimizer.zero_grad()
        model.losses(named(data.draw(128, torch.Generator().manual_seed(step))))["contrastive"].backward()
        optimizer.step()
    x = data.test(2048)["x"]
    s = TABLE[torch.arange(2048) % 50].float()
    y = x + s[:, None] * torch.randn(2048, 2, generator=torch.Generator().manual_seed(1))
    exact = data.density.log_label(y, s)
    with torch.no_grad():
        captions = model.of_captions(torch.arange(8)[:, None])
        ours = (model.factor * model.of_images(y, s) @ captions.T).log_softmax(1).double()
    lost = (exact.exp() * (exact - ours)).sum(1).mean()
    uniform = (exact.exp() * (exact + math.log(8))).sum(1).mean()
    assert 0 < lost < 0.2 * uniform


def test_the_level_is_an_input_and_noise_is_that_of_the_diffusion(seeded):
    model, x = small_clip(), torch.randn(8, 2)
    one, other = (model.of_images(x, torch.full((8,), s)) for s in (0.1, 3.0))
    assert not torch.allclose(one, other, atol=1e-3)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(8))
    model.draws, again = Draws(4, 5), Draws(4, 5)
    y, s = model._noised(x)
    expected = TABLE[(again.uniform(8) * 50).long()].float()
    torch.testing.assert_close(s, expected)
    torch.testing.assert_close(y, x + expected[:, None] * again.normal(8, 2))


def test_the_factor_stays_at_most_a_hundred():
    model = small_clip()
    assert model.factor.item() == pytest.approx(1 / 0.07)
    model.log_factor.data += 10
    assert model.factor.item() == 100


# ---- the base


def small_glide(**more):
    vocabulary = Vocabulary(("red", "blue"), 2)
    body = UNet(1, width=8, multiples=(1,), blocks=1, attention=(0,), head=8, outputs=2, text=8, vector=8)
    net = Captioned(TextTransformer(vocabulary, width=8, depth=1, heads=2), body)
    return glide(net, (1, 4, 4), levels=schedules.cosine(20), **{"sample_steps": 3} | more)


def test_a_share_of_the_captions_is_empty_row_by_row(seeded):
    model, seen = small_glide(drop=0.3), []
    model.net.text.register_forward_pre_hook(lambda net, args: seen.append(args[0]))
    model.draws = Draws(0, 0)
    tokens = torch.tensor([[0, 1]]).expand(2000, 2)
    model.losses({"x": torch.zeros(2000, 1, 4, 4), "caption": tokens})
    empty = (seen[0] == 2).all(1)
    assert empty.double().mean() == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 2000) ** 0.5)
    assert torch.equal(seen[0][~empty], tokens[~empty])


def test_guidance_is_the_difference_to_the_empty_caption(seeded):
    model = small_glide()
    for p in model.parameters():
        nn.init.normal_(p, std=0.1) if (p == 0).all() else None
    model.draw = model.draw.__class__(**{**vars(model.draw), "clip": None})
    cond, rng = model.net.read(["red", "blue blue"]), torch.Generator().manual_seed(0)
    y, s = torch.randn(2, 1, 4, 4, generator=rng), torch.ones(2)
    with torch.no_grad():
        guided = model.draw.guide(model.denoiser(cond), model.denoiser(cond.without(*model.hide)), 2.0)(y, s)
        empty = model.denoiser(Cond(tokens=model.net.text.vocabulary.empty(2)))(y, s)
        torch.testing.assert_close(guided, 3 * model.denoiser(cond)(y, s) - 2 * empty)
    drawn = [model.sample(2, cond, guidance=w, rng=torch.Generator().manual_seed(0)) for w in (0.0, 2.0, 2.0)]
    assert torch.equal(drawn[1], drawn[2]) and not torch.allclose(drawn[0], drawn[1])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1, not 1"):
        small_glide(drop=1.0)
    model, clip = small_glide(), small_clip()
    with pytest.raises(ValueError, match="give a prompt"):
        model.sample(2, guidance=1.0)
    with pytest.raises(ValueError, match="give a prompt"):
        clip.log_ratio(torch.zeros(2, 2), torch.ones(2), Cond())
    with pytest.raises(ValueError, match="data with captions"):
        of_captions({"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="data with captions"):
        clip.losses({"x": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="CLIP takes 5 of 4 steps"):
        clip_guided(clip, model, clip_steps=5, steps=4)
    staged = clip_guided(clip, model, clip_steps=1, steps=2)
    with pytest.raises(ValueError, match="cannot be cut into 2 micro-batches"):
        staged.prepare(0, accumulate=2)
