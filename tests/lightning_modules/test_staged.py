"""Stages within one run: exact resume across a boundary, frozen parts, hand-over of averaged weights."""

import logging
import warnings

import lightning as L
import pytest
import torch
from torch import nn

from datamodules.base import Data, table
from lightning_modules.diffusion import preconditioning, schedules, weighting
from lightning_modules.diffusion.denoising import Denoising, Draw, Learn
from lightning_modules.diffusion.samplers.edm import heun
from lightning_modules.ema import EMA
from lightning_modules.model import Generative
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.optim import Adam, RMSProp
from lightning_modules.staged import Stage, Staged, copy_weights

warnings.filterwarnings("ignore", module="lightning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Line(Data):
    """Points of the plane near a line."""

    shape = (2,)

    def setup(self, stage):
        rng = torch.Generator().manual_seed(5)
        z = torch.randn(64, 2, generator=rng)
        self.source = table(x=z[:, :1] * torch.tensor([1.0, 0.5]) + 0.1 * z)


class Autoencoder(Generative):
    """A linear code of one number for a point."""

    shape = (2,)

    def __init__(self, warmup=3):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1), nn.Linear(1, 2))
        self.optim = Adam(0.02, warmup)

    def losses(self, batch):
        x = batch["x"]
        return {"error": (self.net(x + 0.1 * self.draws.normal(*x.shape)) - x).square().mean()}

    def configure_optimizers(self):
        return self.optim.of(self)


class Prior(Generative):
    """A copy of the autoencoder that learns to also undo noise, and the scale of its codes."""

    shape = (2,)

    def __init__(self, first, optim=Adam(0.01, 4)):
        super().__init__()
        self.copy, self.scale = Autoencoder().net, nn.Parameter(torch.zeros(()))
        self.first, self.optim = [first], optim  # in a list: the first stage is another part's module

    def losses(self, batch):
        x = batch["x"]
        code = self.first[0].net[:2](x)  # has a gradient on its way back: the first stage must not move for that
        fit = (self.copy(x + self.draws.normal(*x.shape)) - x).square().mean()
        nats = (code / self.scale.exp()).square().mean() / 2 + self.scale
        return {"fit": fit, "nats": nats}

    def configure_optimizers(self):
        return self.optim.of(self)

    def sample(self, n, cond=None, *, rng=None):
        return self.copy[2](torch.randn(n, 1, generator=rng) * self.scale.exp())


def staged(first=5, second=4, **options):
    torch.manual_seed(1)
    autoencoder = Autoencoder()
    return Staged(
        (
            Stage("autoencoder", autoencoder, first, copy_weights(("autoencoder.net", "prior.copy"))),
            Stage("prior", Prior(autoencoder, **options), second),
        )
    )


class Watch(L.Callback):
    """The weights, buffers and optimiser state after every step, by step."""

    def __init__(self):
        self.weights, self.optimizer, self.rates = {}, {}, {}

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        step, (optimizer,) = trainer.global_step, trainer.optimizers
        self.weights[step] = {k: v.clone() for k, v in model.state_dict().items()}
        ids = {id(p): k for k, p in model.named_parameters()}
        self.optimizer[step] = {
            ids[id(p)]: {k: v.clone() for k, v in s.items()} for p, s in optimizer.state.items() if s
        }
        self.rates[step] = [group["lr"] for group in optimizer.param_groups]


def fit(model, steps, *, start=None, accumulate=1, ema=0.9, path=None, devices=1, strategy="auto"):
    """Train up to `steps`, from the checkpoint `path` where `start` steps are done already."""
    data = Line(batch=16)
    data.start, data.accumulate, model.seed = (start or 0) * accumulate, accumulate, 3
    watch, average = Watch(), EMA(ema)
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", devices=devices, strategy=strategy, accumulate_grad_batches=accumulate,
        callbacks=[average, watch], enable_model_summary=False, use_distributed_sampler=False, logger=False,
        enable_progress_bar=False, enable_checkpointing=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=path if start else None)
    return trainer, watch, average


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(("first", "second"), [(2, 6), (4, 4), (6, 2)], ids=["before", "at the boundary", "after"])
def test_resume_is_exact_with_a_boundary_on_either_side(first, second, accumulate, tmp_path):
    """8 steps in one go are 4 steps, a checkpoint and 4 steps, to the bit."""
    whole = staged(first, second)
    _, watch, average = fit(whole, 8, accumulate=accumulate)
    half = staged(first, second)
    trainer, *_ = fit(half, 4, accumulate=accumulate)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = staged(first, second)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        _, again, average_again = fit(resumed, 8, start=4, accumulate=accumulate, path=tmp_path / "half.ckpt")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    for name, weight in average.average.items():
        assert torch.equal(weight, average_again.average[name]), name
    assert average.steps == average_again.steps
    assert watch.rates[8] == again.rates[8]
    for name, state in watch.optimizer[8].items():
        for k, v in state.items():
            assert torch.equal(v, again.optimizer[8][name][k]), (name, k)


def of(names, part):
    return [name for name in names if name.startswith(part)]


def test_frozen_parts_and_their_optimiser_state_do_not_change():
    _, watch, _ = fit(staged(5, 4), 9)
    for step in range(2, 6):
        for name in of(watch.weights[step], "prior."):
            assert torch.equal(watch.weights[step][name], watch.weights[1][name]), name
    assert not of(watch.optimizer[5], "prior.")
    for step in range(7, 10):
        for name in of(watch.weights[step], "autoencoder."):
            assert torch.equal(watch.weights[step][name], watch.weights[6][name]), name
        for name in of(watch.optimizer[5], "autoencoder."):
            for k, v in watch.optimizer[5][name].items():
                assert torch.equal(watch.optimizer[step][name][k], v), (name, k)
    moved = [n for n in watch.weights[9] if not torch.equal(watch.weights[9][n], watch.weights[5][n])]
    assert set(of(watch.weights[9], "prior.")) <= set(moved)
    assert watch.optimizer[9]["prior.scale"]["step"] == 4


def test_the_second_part_begins_as_the_average_of_the_first():
    """Its weights after one step differ from that average by at most one step of Adam: the learning rate, a quarter of 0.01."""
    _, watch, average = fit(staged(5, 4), 5)
    _, on, later = fit(staged(5, 4), 6)
    for name in of(average.average, "autoencoder.net"):
        weight = average.average[name]
        assert not torch.equal(weight, watch.weights[5][name])
        assert torch.equal(on.weights[6][name], weight)
        copied = on.weights[6][name.replace("autoencoder.net", "prior.copy")]
        assert 0 < (copied - weight).abs().max() <= 0.01 / 4 + 1e-6
        assert torch.equal(later.average[name], weight)
    assert later.steps == 1


def test_each_part_has_its_own_schedule_from_its_first_step():
    _, watch, _ = fit(staged(5, 6), 11)
    autoencoder, prior = ([rates[k] for rates in watch.rates.values()] for k in (0, 1))
    assert autoencoder[:3] == pytest.approx([0.02 * 2 / 3, 0.02, 0.02])
    assert prior[4:9] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])  # what the next step takes


def test_a_rate_that_is_given_is_that_of_every_part():
    model = staged(3, 3)
    model.set_rate(0.5, 2)
    _, watch, _ = fit(model, 6)
    autoencoder, prior = ([rates[k] for rates in watch.rates.values()] for k in (0, 1))
    assert autoencoder[:2] == pytest.approx([0.5, 0.5]) and prior[1:5] == pytest.approx([0.25, 0.25, 0.5, 0.5])
    model.set_rate(None, None)
    assert [stage.model.optim for stage in model.stages] == [Adam(0.5, 2)] * 2


def test_a_stage_of_no_steps_hands_on_before_the_first_step():
    model = staged(0, 3)
    weights = {k: v + 1 for k, v in Autoencoder().state_dict().items()}
    model.start({"autoencoder": weights})
    _, watch, _ = fit(model, 1)
    for name, weight in weights.items():
        assert torch.equal(watch.weights[1][f"autoencoder.{name}"], weight)
        if "running" not in name and "batches" not in name:
            gap = watch.weights[1][f"prior.{name.replace('net', 'copy')}"] - weight
            assert gap.abs().max() <= 0.01 / 4 + 1e-6


class FirstStage(Autoencoder):
    """The autoencoder as the space of a diffusion."""

    def latent_shape(self, shape):
        return (1,)

    def encode(self, x, draws):
        assert not self.training
        return self.net[:2](x)

    def decode(self, z):
        return self.net[2](z)

    def losses(self, batch):
        assert self.training
        return super().losses(batch)


def test_a_latent_diffusion_is_two_stages():
    """The prior's space is the part before it: its batch norm moves in the first stage alone, the prior in the second alone."""
    torch.manual_seed(1)
    first = FirstStage()
    prior = Denoising(
        ResidualMLP((1,), width=8, depth=1),
        (2,),
        level_input=preconditioning.quarter_log,
        precondition=preconditioning.edm,
        learn=Learn(levels=schedules.log_normal, weight=weighting.edm),
        draw=Draw(sampler=heun, grid=schedules.karras, steps=4, data_std=0.0),
        space=first,
        optim=Adam(0.01),
    )
    model = Staged((Stage("first", first, 3), Stage("prior", prior, 3)))
    _, watch, average = fit(model, 6)
    moved = [
        {k for k, v in watch.weights[b].items() if not torch.equal(v, watch.weights[a][k])} for a, b in [(1, 3), (4, 6)]
    ]
    assert {k for k in moved[0] if k.startswith("prior.net")} == set()
    assert "first.net.1.running_mean" in moved[0] and "prior.space.net.1.running_mean" in moved[0]
    assert moved[1] and all(k.startswith("prior.net") for k in moved[1])
    assert {k.split(".")[0] for k in average.average} == {"first", "prior"}
    assert model.sample(5, rng=torch.Generator().manual_seed(0)).shape == (5, 2)


def test_two_workers_train_what_one_trains(tmp_path):
    """Frozen weights have no gradient, for which DDP must not wait. Batch norm sees its worker's half, so it is left out."""
    code = f"""
import torch, lightning as L
from tests.lightning_modules.test_staged import *
torch.set_num_threads(1)
class Plain(Autoencoder):
    def __init__(self):
        super().__init__()
        self.net[1] = nn.Identity()
def made():
    torch.manual_seed(1)
    first, second = Plain(), Plain()
    return Staged((Stage("one", first, 3, copy_weights(("one", "two"))), Stage("two", second, 3)))
if __name__ == "__main__":
    from lightning.pytorch.strategies import DDPStrategy
    one = made()
    fit(one, 6)
    two = made()
    trainer, *_ = fit(two, 6, devices=2, strategy=DDPStrategy(start_method="fork", broadcast_buffers=False, gradient_as_bucket_view=True))
    torch.save([one.state_dict(), two.state_dict()], {str(tmp_path / "both.pt")!r})
"""
    run_python(code)
    one, two = torch.load(tmp_path / "both.pt")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight)


def run_python(code):
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_samples_are_those_of_the_last_part():
    model = staged()
    one, two = (m.sample(4, rng=torch.Generator().manual_seed(0)) for m in (model, model.prior))
    assert torch.equal(one, two)
    assert model.shape == (2,) and model.steps == 9
    with pytest.raises(TypeError, match="The last part, 'one', cannot be sampled"):
        Staged((Stage("one", Autoencoder(), 1),)).sample(2)


def test_stages_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="at least one stage"):
        Staged(())
    with pytest.raises(ValueError, match="cannot be called 'losses'"):
        Staged((Stage("losses", Autoencoder(), 1),))
    with pytest.raises(ValueError, match="has -1 steps"):
        Staged((Stage("one", Autoencoder(), -1),))
    with pytest.raises(ValueError, match="'autoencoder' has Adam and 'prior' has RMSprop"):
        staged(optim=RMSProp()).configure_optimizers()


def test_weights_of_other_runs_are_loaded_whole_or_not_at_all():
    model = staged()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    good = {k: v + 1 for k, v in Autoencoder().state_dict().items()}
    for parts, message in [
        (
            {"teacher": good},
            "Staged has no part 'teacher' to start from other weights; it has model, autoencoder, prior",
        ),
        ({"autoencoder": good, "prior": good}, "The weights for 'prior' do not fit: .*is missing.* more differ"),
        ({"autoencoder": good | {"net.0.weight": torch.zeros(3, 2)}}, r"has shape \(3, 2\), not \(1, 2\)"),
        ({"autoencoder": good | {"extra": torch.zeros(1)}}, "'extra' is unknown"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.start(parts)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.start({"autoencoder": good, "prior.copy": {k.removeprefix("net."): v for k, v in good.items()}})
    assert torch.equal(model.prior.copy[0].weight, good["net.0.weight"])
    model.start({"model": before})
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
