"""Adversarial training: steps are the generator's, cutting, workers and interrupts change nothing, and each technique is its definition."""

import logging
import warnings

import lightning as L
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from datamodules.base import Data, table
from lightning_modules.ema import EMA
from lightning_modules.gan.gan import GAN
from lightning_modules.gan.improved_gan import ImprovedGAN
from lightning_modules.gan.wgan import WGAN
from lightning_modules.gan.wgan_gp import WGANGP
from lightning_modules.model import NotFinite
from lightning_modules.nets.adversarial import dense_discriminator, dense_generator
from lightning_modules.optim import Adam, RMSProp
from tests.two_processes import together

warnings.filterwarnings("ignore", module="lightning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

FAST = Adam(1e-2, betas=(0.5, 0.999))
IMPROVED = {"optim": FAST, "history": 0.1, "real_label": 0.9, "noise_std": 0.2, "noise_steps": 20}
KINDS = {
    "gan": (GAN, {"optim": FAST}),
    "improved": (ImprovedGAN, {"critic_steps": 2, **IMPROVED}),
    "wgan": (WGAN, {"critic_steps": 3, "optim": RMSProp(1e-3), "clip": 0.1}),
    "wgan_gp": (WGANGP, {"critic_steps": 2, "optim": Adam(1e-2, betas=(0.0, 0.9), decay_steps=10)}),
}


def made(kind, **options):
    torch.manual_seed(0)
    cls, settings = KINDS[kind]
    return cls(
        dense_generator(3, (2,), width=8, depth=2), dense_discriminator((2,), width=8, depth=2), 3, **settings | options
    )


class Points(Data):
    shape = (2,)

    def setup(self, stage):
        self.source = table(x=torch.randn(96, 2, generator=torch.Generator().manual_seed(5)))


def fit(model, steps=6, start=0, accumulate=1, path=None, **options):
    data = Points(batch=8 * model.critic_steps)
    data.accumulate = accumulate * model.critic_steps
    data.seed, data.start = 3, start * data.accumulate
    model.seed, model.accumulate = 3, accumulate
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        **quiet,
        **{"devices": 1, **options},
    )
    trainer.fit(model, data, ckpt_path=path)
    return trainer


def weights(model):
    return parameters_to_vector(model.parameters()).detach().clone()


class Count(L.Callback):
    """Steps of both optimisers, and the trainer's step after each batch."""

    def __init__(self):
        self.each, self.steps = {}, []

    def on_before_optimizer_step(self, trainer, model, optimizer):
        first = optimizer.param_groups[0]["params"][0]
        network = "discriminator" if first is next(model.discriminator.parameters()) else "generator"
        self.each[network] = self.each.get(network, 0) + 1

    def on_train_batch_end(self, trainer, *_):
        self.steps.append(trainer.global_step)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_are_the_generators(accumulate):
    count, ema = Count(), EMA(0.9)
    model = made("wgan")
    trainer = fit(model, 4, accumulate=accumulate, callbacks=[count, ema])
    assert trainer.global_step == 4 and count.each == {"discriminator": 12, "generator": 4}
    per = 3 * accumulate
    assert count.steps == [(i + 1) // per for i in range(4 * per)]
    assert ema.steps == 4
    assert {k.partition(".")[0] for k in ema.average} == {"generator"}
    assert {
        "loss",
        "loss/discriminator_minus_distance",
        "grad_norm/discriminator",
        "loss/generator_minus_score",
    } <= set(trainer.logged_metrics)


@pytest.mark.parametrize("kind", KINDS)
def test_cutting_the_batch_into_micro_batches_changes_nothing(kind):
    whole, cut = made(kind), made(kind)
    one, two = fit(whole), fit(cut, accumulate=2)
    torch.testing.assert_close(weights(cut), weights(whole))
    for name, value in one.logged_metrics.items():
        torch.testing.assert_close(two.logged_metrics[name], value)


def by_hand(model, steps):
    """The same training as a plain loop over whole batches, with optimisers and gradients written out."""
    data = Points(batch=8 * model.critic_steps)
    data.setup("fit")
    both = [o["optimizer"] if isinstance(o, dict) else o for o in model.configure_optimizers()]
    from lightning_modules.draws import Draws

    for step in range(steps):
        for count in range(model.critic_steps + 1):
            rows = min(count, model.critic_steps - 1) * 8
            x = data.source.rows(3, step, 8 * model.critic_steps, rows, rows + 8)["x"]
            model.draws = Draws(3, step * (model.critic_steps + 1) + count)
            last = count == model.critic_steps
            fake = model.generator(model.draws.normal(8, 3))
            terms = model.generator_losses(x, fake) if last else model.discriminator_losses(x, fake.detach())
            net = model.generator if last else model.discriminator
            gradients = torch.autograd.grad(sum(terms.values()), list(net.parameters()))
            for p, g in zip(net.parameters(), gradients, strict=True):
                p.grad = g
            both[int(last)].step()
            model.after_step("generator" if last else "discriminator")


@pytest.mark.parametrize("kind", ["gan", "wgan", "wgan_gp"])
def test_it_is_the_plain_loop_of_the_paper(kind):
    options = {"optim": Adam(1e-2, betas=(0.0, 0.9))} if kind == "wgan_gp" else {}
    ours, plain = made(kind, **options), made(kind, **options)
    fit(ours, 5)
    by_hand(plain, 5)
    torch.testing.assert_close(weights(ours), weights(plain))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_is_exact(kind, accumulate, tmp_path):
    straight, average = made(kind), EMA(0.9)
    fit(straight, 6, accumulate=accumulate, callbacks=[average])
    fit(made(kind), 2, accumulate=accumulate, callbacks=[EMA(0.9)]).save_checkpoint(tmp_path / "two.ckpt")
    torch.manual_seed(123)
    resumed, again = made(kind), EMA(0.9)
    fit(resumed, 6, start=2, accumulate=accumulate, path=tmp_path / "two.ckpt", callbacks=[again])
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert all(torch.equal(again.average[k], v) for k, v in average.average.items())
    states = [[o.state_dict()["state"] for o in m.optimizers(use_pl_optimizer=False)] for m in (straight, resumed)]
    for one, other in zip(*states, strict=True):
        assert all(torch.equal(one[i][k], other[i][k]) for i in one for k in one[i])


class Autoencoder(GAN):
    """Its fakes are reconstructions: the generator's input is the batch."""

    def fakes(self, batch):
        return self.generator(batch["x"])

    def generator_losses(self, x, fake):
        self.exact = [*getattr(self, "exact", []), torch.equal(fake, self.generator(x))]
        return super().generator_losses(x, fake)


def test_a_model_may_generate_from_its_batch():
    torch.manual_seed(0)
    model = Autoencoder(dense_generator(2, (2,), width=8), dense_discriminator((2,), width=8), 2)
    before = weights(model)
    fit(model, 2)
    assert not torch.equal(weights(model), before)
    assert model.exact == [True, True]


def worker(path):
    found = {}
    for kind in KINDS:
        model = made(kind)
        trainer = fit(model, accumulate=2, devices=2, strategy="ddp")
        found[kind] = weights(model), trainer.logged_metrics["grad_norm/discriminator"]
    torch.save(found, f"{path}.{trainer.global_rank}")


def test_two_processes_compute_what_one_does(tmp_path):
    together(worker, tmp_path / "w")
    first, second = (torch.load(f"{tmp_path}/w.{rank}") for rank in range(2))
    for kind in KINDS:
        alone = made(kind)
        trainer = fit(alone)
        torch.testing.assert_close(first[kind][0], weights(alone))
        assert torch.equal(first[kind][0], second[kind][0])
        torch.testing.assert_close(first[kind][1], trainer.logged_metrics["grad_norm/discriminator"])


class Poisoned(WGANGP):
    def __init__(self, network, *args, **options):
        super().__init__(*args, **options)
        self.network = network

    def spoil(self, network, terms):
        bad = float("nan") if self.trainer.global_step == 2 and network == self.network else 1.0
        return {k: v * bad for k, v in terms.items()}

    def discriminator_losses(self, x, fake):
        return self.spoil("discriminator", super().discriminator_losses(x, fake))

    def generator_losses(self, x, fake):
        return self.spoil("generator", super().generator_losses(x, fake))


@pytest.mark.parametrize(("network", "term"), [("discriminator", "minus_distance"), ("generator", "minus_score")])
def test_nan_of_either_network_stops_before_its_step(network, term):
    nets = dense_generator(3, (2,), width=8), dense_discriminator((2,), width=8)
    model = Poisoned(network, *nets, 3)
    with pytest.raises(NotFinite, match=f"'{term}' is nan at step 2"):
        fit(model)
    assert weights(model).isfinite().all()


def test_each_networks_gradient_is_clipped():
    class Norms(L.Callback):
        def __init__(self):
            self.seen = []

        def on_before_zero_grad(self, trainer, model, optimizer):
            got = [p.grad.flatten() for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
            self.seen.append(torch.cat(got).norm().item())

    free, held = made("gan"), made("gan")
    held.grad_clip = 0.01
    norms, loose = Norms(), Norms()
    fit(held, callbacks=[norms])
    fit(free, callbacks=[loose])
    assert not torch.equal(weights(held), weights(free))


def test_weights_of_the_critic_are_clipped_and_those_of_the_generator_are_not():
    model = made("wgan", clip=0.02)
    fit(model, 2)
    assert max(p.abs().max() for p in model.discriminator.parameters()) <= 0.02
    assert max(p.abs().max() for p in model.generator.parameters()) > 0.02


def test_the_learning_rate_falls_to_nothing():
    model = made("wgan_gp")
    trainer = fit(model, 4)
    assert [o.param_groups[0]["lr"] for o in trainer.optimizers] == pytest.approx([6e-3, 6e-3])


def test_history_is_the_mean_of_all_weights_so_far():
    seen = []

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer, model, *_):
            seen.append(parameters_to_vector(model.discriminator.parameters()).detach().clone())

    model = made("improved", critic_steps=1)
    seen.append(parameters_to_vector(model.discriminator.parameters()).detach().clone())
    fit(model, 5, callbacks=[Keep()])
    torch.testing.assert_close(model.past["discriminator"].mean, torch.stack(seen).mean(0))


def test_instance_noise_has_its_deviation_and_fades():
    """The deviation within 5 standard errors: a false alarm once in a million."""
    model = made("improved", noise_std=0.5, noise_steps=10)
    model._trainer = type("At", (), {"global_step": 4})()
    x = torch.zeros(20_000, 2)
    std = 0.5 * 0.6
    assert abs(model.with_noise(x).std() - std) < 5 * std / (2 * 40_000) ** 0.5
    model._trainer.global_step = 12
    assert torch.equal(model.with_noise(x), x)


def test_matching_compares_features_and_not_verdicts():
    model = made("improved", feature_matching=True, noise_std=0.0, history=0.0)
    x, fake = torch.randn(8, 2), torch.randn(8, 2)
    gap = model.discriminator.features(x).mean(0) - model.discriminator.features(fake).mean(0)
    assert model.generator_losses(x, fake)["feature_matching"].item() == pytest.approx(gap.square().sum().item())


def test_only_the_label_of_real_examples_is_smoothed():
    model = made("improved", noise_std=0.0, history=0.0)
    x, fake = torch.randn(8, 2), torch.randn(8, 2)
    terms, d = model.discriminator_losses(x, fake), torch.sigmoid
    real = -(0.9 * d(model.discriminator(x)).log() + 0.1 * d(-model.discriminator(x)).log()).mean()
    assert terms["real"].item() == pytest.approx(real.item(), rel=1e-5)
    assert terms["fake"].item() == pytest.approx(-d(-model.discriminator(fake)).log().mean().item(), rel=1e-5)


def test_virtual_batch_norm_trains_with_the_first_examples_as_reference(tmp_path):
    torch.manual_seed(0)
    nets = [
        dense_generator(3, (2,), kind="virtual", reference=4),
        dense_discriminator((2,), kind="virtual", reference=4),
    ]
    model = ImprovedGAN(*nets, 3)
    fit(model, 2)
    data = Points(batch=8)
    data.setup("fit")
    torch.testing.assert_close(model.discriminator.body.reference, data.source.rows(3, 0, 8, 0, 4)["x"])
    large = ImprovedGAN(dense_generator(3, (2,)), dense_discriminator((2,), kind="virtual", reference=9), 3)
    with pytest.raises(ValueError, match="refers to 9 examples, but a worker's micro-batch has 8"):
        fit(large, 2)


def test_what_cannot_be_is_refused():
    for kind, bad in [
        ("gan", {"objective": "hinge"}),
        ("gan", {"critic_steps": 0}),
        ("wgan", {"clip": 0.0}),
        ("improved", {"real_label": 1.5}),
        ("improved", {"noise_std": -1.0}),
    ]:
        with pytest.raises(ValueError, match=r"\.$"):
            made(kind, **bad)
    with pytest.raises(ValueError, match="without labels"):
        made("gan").sample(2, torch.zeros(2))


def test_draws_are_a_matter_of_their_generator_alone():
    model = made("gan")
    one, two = (model.sample(10, rng=torch.Generator().manual_seed(1), batch=b) for b in (3, 10))
    torch.testing.assert_close(one, two)
    assert one.shape == (10, 2) and not one.requires_grad
