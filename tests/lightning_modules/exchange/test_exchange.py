"""Networks and schedulers of diffusers: equal outputs both ways, the same samples, and what cannot be expressed."""

from functools import partial

import pytest
import torch
from torch import nn

from lightning_modules.conditions import Cond
from lightning_modules.diffusion import preconditioning, schedules
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
from lightning_modules.diffusion.samplers.ddim import ddim
from lightning_modules.exchange import scheduler
from lightning_modules.exchange.model import Parts, exported, imported
from lightning_modules.nets.dit import DiT, Size
from lightning_modules.nets.embed import index_waves
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.nets.residual import grouped
from lightning_modules.nets.unet import UNet

LEVELS = schedules.linear(1000)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
UNETS = {
    "plain": {},
    "three levels, two blocks": {"multiples": (1, 2, 2), "blocks": 2},
    "AdaGN": {"scale_shift": True},
    "residual up and down": {"residual_resampling": True},
    "residual up and down, all attend": {"residual_resampling": True, "attention": (0, 1)},
    "one head everywhere": {"attention": (0, 1), "heads": 1},
    "no attention": {"head": 0, "attention": ()},
    "labels": {"classes": 4},
    "learned variance": {"outputs": 2},
    "dropout": {"dropout": 0.3},
}


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e '.[test]'.")


def awake(net):
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    return net.eval()


def unet(groups=4, **options):
    given = {"width": 16, "multiples": (1, 2), "blocks": 1, "head": 8, "features": partial(index_waves, dim=16)}
    return awake(grouped(UNet(3, **{**given, **options}), groups))


def dit(**options):
    given = {"features": partial(index_waves, dim=256, shift=1), **options}
    return awake(DiT(3, Size(16, 2, 2), **given))


def model(net, levels=LEVELS, **options):
    index, outputs = partial(schedules.index_of, levels=levels), net(torch.zeros(1, 3, 8, 8), torch.zeros(1)).shape[1]
    if outputs == 6:
        return ImprovedDDPM(net, (3, 8, 8), levels=levels, level_input=index, **options)
    return ddpm(net, (3, 8, 8), levels=levels, level_input=index, **options)


def answers(net, labels=0):
    """What a network of ours answers, in the first row for the null label."""
    x, t = examples()
    label = torch.arange(3).clamp(max=max(labels - 1, 0))
    cond = Cond(label=label, hidden={"label": torch.arange(3) == 0}) if labels else Cond()
    with torch.no_grad():
        return net(x, t.float(), cond)


def answers_of(peer, labels=0, always=False):
    """As `answers`, of a network of diffusers."""
    x, t = examples()
    label = torch.tensor([labels, 1, 2]) if labels else torch.zeros(3, dtype=torch.long) if always else None
    with torch.no_grad():
        return peer(x, t, class_labels=label).sample


def examples():
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 17, 999])


def built(cls, parts):
    peer = cls.from_config({"_class_name": parts.network, **parts.config})
    peer.load_state_dict(parts.weights)
    return peer.eval()


@pytest.mark.parametrize("case", UNETS)
def test_a_unet_answers_the_same_in_diffusers_and_back(case, diffusers, seeded):
    options = UNETS[case]
    labels, net = options.get("classes", 0), unet(**options)
    parts = exported(model(net))
    expected = answers(net, labels)
    assert expected.abs().mean() > 0.1
    torch.testing.assert_close(answers_of(built(diffusers.UNet2DModel, parts), labels), expected, **CLOSE)
    again = imported(with_classes(parts)).net.eval()
    torch.testing.assert_close(answers(again, labels), expected, rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"classes": 4}, {"outputs": 2, "patch": 4}, {"classes": 4, "dropout": 0.5}])
def test_a_dit_answers_the_same_in_diffusers_and_back(options, diffusers, seeded):
    labels, net = options.get("classes", 0), dit(**options)
    parts = exported(model(net))
    expected = answers(net, labels)
    peer = built(diffusers.DiTTransformer2DModel, parts)
    torch.testing.assert_close(answers_of(peer, labels, always=True), expected, **CLOSE)
    again = imported(with_classes(parts)).net.eval()
    torch.testing.assert_close(answers(again, labels), expected, rtol=0, atol=0)


PEERS = {
    "as DDPM's networks on the hub": {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": None, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6,
    },
    "all attend, labels": {
        "down_block_types": ("AttnDownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D"),
        "num_class_embeds": 4, "layers_per_block": 2,
    },
    "as ADM": {
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4, "downsample_type": "resnet", "upsample_type": "resnet",
    },
}  # fmt: skip


@pytest.mark.parametrize("case", PEERS)
def test_a_unet_of_diffusers_answers_the_same_here_and_back(case, diffusers, seeded, tmp_path):
    given = {"sample_size": 8, "block_out_channels": (16, 32), "norm_num_groups": 4, "layers_per_block": 1} | PEERS[
        case
    ]
    peer = awake(diffusers.UNet2DModel(**given))
    labels = given.get("num_class_embeds", 1) - 1
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in peer.config.items()}
    ours = imported(Parts("UNet2DModel", config, peer.state_dict(), schedule()))
    expected = answers_of(peer, labels)
    torch.testing.assert_close(answers(ours.net.eval(), labels), expected, **CLOSE)
    again = built(diffusers.UNet2DModel, exported(ours))
    torch.testing.assert_close(answers_of(again, labels), expected, **CLOSE)


def test_a_dit_of_diffusers_answers_the_same_here_and_back(diffusers, seeded):
    peer = awake(
        diffusers.DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=3,
            num_layers=2,
            sample_size=8,
            num_embeds_ada_norm=4,
        )
    )
    for block in peer.transformer_blocks:
        block.norm1.emb.load_state_dict(peer.transformer_blocks[0].norm1.emb.state_dict())
    ours = imported(Parts("DiTTransformer2DModel", dict(peer.config), peer.state_dict(), schedule()))
    expected = answers_of(peer, 4)
    torch.testing.assert_close(answers(ours.net.eval(), 4), expected, **CLOSE)
    torch.testing.assert_close(answers_of(built(type(peer), exported(ours)), 4), expected, **CLOSE)


def schedule(**options):
    return {"_class_name": "DDPMScheduler", "num_train_timesteps": 1000, **options}


def with_classes(parts):
    """The parts as files hold them."""
    return parts._replace(schedule={"_class_name": "DDPMScheduler", **parts.schedule})


@pytest.mark.parametrize("predict", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("levels", [schedules.linear(100, 1e-3, 0.2), schedules.cosine(100)], ids=["linear", "cosine"])
def test_the_scheduler_of_diffusers_draws_the_same_samples(predict, levels, diffusers, seeded):
    ours = model(unet(), levels)
    ours.precondition = scheduler.PREDICTIONS[predict]
    parts = with_classes(exported(ours))
    peer, steps = built(diffusers.UNet2DModel, parts), diffusers.DDIMScheduler.from_config(parts.schedule)
    steps.set_timesteps(10)
    grid = schedules.trailing(levels, 10)
    assert [levels[t].item() for t in steps.timesteps] == grid[:-1].tolist()
    noise = torch.randn(2, 3, 8, 8)
    x = noise
    with torch.no_grad():
        for t in steps.timesteps:
            x = steps.step(peer(x, t).sample, t, x).prev_sample
        drawn = ddim(ours.denoiser(), noise * (1 + grid[0] ** 2).sqrt().float(), grid)
    torch.testing.assert_close(drawn, x, rtol=1e-3, atol=1e-3)
    again = imported(parts)
    assert again.precondition is ours.precondition
    torch.testing.assert_close(again.bound.levels, levels, rtol=1e-9, atol=0)


@pytest.mark.parametrize("large", [False, True])
def test_the_reverse_step_has_the_mean_and_variance_of_diffusers(large, diffusers, seeded):
    levels = schedules.linear(50, 2e-3, 0.4)
    ours = model(unet(), levels, variance=schedules.forward if large else schedules.posterior, clip=True)
    steps = diffusers.DDPMScheduler.from_config(exported(ours).schedule)
    x, t = torch.randn(2, 3, 8, 8), 30
    sigma, below = levels[t].float(), levels[t - 1].float()
    y = x * (1 + sigma**2).sqrt()
    denoise = lambda y, s: ours.denoiser()(y, s).clamp(-1, 1)  # noqa: E731
    with torch.no_grad():
        mean, variance = ours.step(denoise, Cond())(y, sigma.expand(2), below.expand(2))
        answer = ours.net(x, torch.full((2,), float(t)))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    drawn = steps.step(answer, t, x, generator=torch.Generator().manual_seed(3)).prev_sample
    expected = (mean + variance.sqrt().reshape(-1, 1, 1, 1) * noise) / (1 + below**2).sqrt()
    torch.testing.assert_close(drawn, expected.float(), rtol=1e-4, atol=1e-4)


def test_the_learned_variance_is_that_of_diffusers(diffusers, seeded):
    levels = schedules.cosine(50)
    ours = model(unet(outputs=2), levels)
    steps = diffusers.DDPMScheduler.from_config(exported(ours).schedule)
    raw = torch.rand(2, 3, 8, 8) * 2 - 1
    sigma, below = levels[30].float(), levels[29].float()
    found = ours.variance((raw + 1) / 2, sigma.expand(2), below.expand(2)) / (1 + below**2)
    torch.testing.assert_close(steps._get_variance(30, raw).exp(), found.float(), rtol=1e-4, atol=0)


def test_an_index_is_exact_at_its_level_and_between_its_neighbours_elsewhere():
    for levels in (LEVELS, schedules.cosine(4000), torch.tensor([0.5], dtype=torch.float64)):
        index = schedules.index_of(levels.float(), levels)
        assert torch.equal(index, torch.arange(len(levels)).float())
    low, high = LEVELS[41], LEVELS[42]
    assert schedules.index_of((low * high).sqrt()[None], LEVELS).item() == pytest.approx(41.5)
    assert schedules.index_of(torch.tensor([1e-9, 1e9]), LEVELS).tolist() == [0, 999]


def test_older_names_of_attention_are_known(seeded):
    parts = with_classes(exported(model(unet())))
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name):
        return next((name.replace(new, was) for new, was in old.items() if f".{new}." in name), name)

    weights = {renamed(name): weight for name, weight in parts.weights.items()}
    assert weights.keys() != parts.weights.keys()
    assert torch.equal(answers(imported(parts._replace(weights=weights)).net), answers(imported(parts).net))


REFUSED = {
    "patches": (lambda: unet(width=16, patch=2), "has no patches"),
    "scaled skips": (lambda: unet(skip_scale=0.5), "has no scaled skip connections"),
    "scaled sums": (lambda: unet(residual_scale=0.5), "has no scaled sums"),
    "text": (lambda: unet(text=4), "has no attention to tokens"),
    "image": (lambda: unet(image=1), "has no condition 'image'"),
    "blocks by level": (lambda: unet(blocks=(1, 2)), "one number of blocks .* 1 and 2"),
    "groups": (lambda: UNet(3, width=16, multiples=(1, 2), head=8, features=partial(index_waves, dim=16)), "one number of groups"),
    "features": (lambda: unet(features=None), "given 16 waves of the level's index"),
    "heads": (lambda: unet(multiples=(1, 2), attention=(0, 1), heads=2), "one number of channels of a head"),
    "design": (lambda: dit(design="in-context"), "has no design 'in-context'"),
    "qk_norm": (lambda: dit(qk_norm=True), "normalised queries and keys"),
    "expansion": (lambda: dit(expansion=2.0), "another expansion than 4"),
    "wave shift": (lambda: dit(features=partial(index_waves, dim=256)), "with `shift` 1"),
    "perceptron": (lambda: ResidualMLP((3, 8, 8), width=8, depth=1), "no ResidualMLP: a U-Net or a DiT"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_diffusers_cannot_express_is_refused_in_one_sentence(case, seeded):
    make, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        exported(model(make()))


def test_a_level_that_is_no_index_is_refused(seeded):
    with pytest.raises(ValueError, match=r"index of a noise level in a table.*--diffusers"):
        exported(ddpm(unet(), (3, 8, 8), levels=LEVELS))
    other = model(unet())
    other.precondition = preconditioning.flow
    with pytest.raises(ValueError, match="predict the noise, x0 or v"):
        exported(other)


def config_with(**changes):
    return lambda parts: parts._replace(config={**parts.config, **changes})


def weights_with(change):
    def changed(parts):
        weights = dict(parts.weights)
        change(weights)
        return parts._replace(weights=weights)

    return changed


BAD = {
    "class": (lambda p: p._replace(network="UNet2DConditionModel"), "no network 'UNet2DConditionModel' of ours"),
    "missing": (weights_with(lambda w: w.pop("conv_in.bias")), "conv_in.bias is missing"),
    "unknown": (weights_with(lambda w: w.update(extra=torch.zeros(1))), "no weight extra"),
    "shape": (weights_with(lambda w: w.update({"conv_in.bias": torch.zeros(3)})), r"enter.bias have the shape \[3\].* \[16\]"),
    "nan": (weights_with(lambda w: w["conv_in.bias"].fill_(torch.nan)), "not finite"),
    "fourier": (config_with(time_embedding_type="fourier"), "no time_embedding_type 'fourier'"),
    "block": (config_with(down_block_types=["DownBlock2D", "SkipDownBlock2D"]), "no block SkipDownBlock2D"),
    "lists": (config_with(down_block_types="DownBlock2D"), "must be a list of texts"),
    "huge": (config_with(layers_per_block=50_000), "more layers than the file has weights"),
    "wide": (config_with(block_out_channels=[65536, 65536]), "no weight down_blocks.1.resnets.0.conv_shortcut.bias"),
    "negative": (config_with(norm_num_groups=-1), "norm_num_groups must be a whole number"),
    "groups": (config_with(norm_num_groups=7), "no attn_norm_num_groups 4: it must be 7"),
    "size": (config_with(sample_size=7), "multiples of 2"),
    "no size": (config_with(sample_size=None), "sample_size must be a whole number"),
    "widths": (config_with(block_out_channels=[16, 24]), "must be even and divide all"),
    "outputs": (config_with(out_channels=6), "shape|answers as many as"),
    "scheduler": (lambda p: p._replace(schedule={"_class_name": "ScoreSdeVeScheduler"}), "'ScoreSdeVeScheduler' is not known"),
    "zero snr": (lambda p: p._replace(schedule={**p.schedule, "rescale_betas_zero_snr": True}), "no rescale_betas_zero_snr True"),
    "betas": (lambda p: p._replace(schedule={**p.schedule, "beta_end": 2.0}), "beta_end must be a number from 0 to 1"),
    "few betas": (lambda p: p._replace(schedule={**p.schedule, "trained_betas": [0.1]}), "trained_betas must be 1000 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_sentence(case, seeded):
    change, sentence = BAD[case]
    with pytest.raises(ValueError, match=sentence) as refusal:
        imported(change(with_classes(exported(model(unet())))))
    assert "\n" not in str(refusal.value)


def test_copies_of_the_embedder_must_agree(seeded):
    parts = with_classes(exported(model(dit(classes=4))))
    parts.weights["transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"][0] += 1e-3
    with pytest.raises(ValueError, match=r"blocks\.0\..*linear_1\.bias and .*blocks\.1\..* must be equal"):
        imported(parts)
