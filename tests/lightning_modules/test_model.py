"""What all models share: randomness that does not depend on the workers, averages, guards."""

import logging
import warnings

import lightning as L
import pytest
import torch

from datamodules.base import Data, table
from lightning_modules.draws import Draws, key
from lightning_modules.dropout import Dropout
from lightning_modules.ema import EMA
from lightning_modules.model import Generative, NotFinite
from tests.two_processes import together

warnings.filterwarnings("ignore", module="lightning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Line(Generative):
    """Least squares with drawn noise; with torch's dropout where `poison` is -2, with ours where it is -3."""

    def __init__(self, poison: int = -1) -> None:
        super().__init__()
        self.net = torch.nn.Linear(3, 3)
        torch.nn.init.eye_(self.net.weight)
        torch.nn.init.zeros_(self.net.bias)
        self.drop, self.poison = torch.nn.Dropout(0.5) if poison == -2 else Dropout(0.5), poison
        self.seen = []

    def losses(self, batch):
        x = batch["x"]
        error = self.net(self.drop(x) if self.poison < -1 else x + self.draws.normal(*x.shape)) - x
        bad = float("nan") if self.trainer.global_step == self.poison else 1.0
        return {"near": error.square().mean(), "far": bad * error.abs().mean()}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_train_batch_end(self, outputs, batch, index):
        self.seen.append(outputs["loss"].item())


class Numbers(Data):
    def setup(self, stage):
        self.source = table(x=torch.randn(48, 3, generator=torch.Generator().manual_seed(5)))


def fit(model, steps=6, start=0, accumulate=1, **options):
    data = Numbers(batch=8)
    data.start, data.accumulate, model.seed = start, accumulate, 3
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        accumulate_grad_batches=accumulate,
        **quiet,
        **{"devices": 1, **options},
    )
    trainer.fit(model, data)
    return trainer


def test_key_separates_its_counters():
    assert len({key(a, b, c) for a in range(5) for b in range(5) for c in range(5)}) == 125
    assert key(3, 4) == key(3, 4)
    assert 0 <= key(2**40, 7) < 2**63


@pytest.mark.parametrize("draw", ["normal", "uniform", "integers"])
def test_parts_of_a_batch_draw_what_the_whole_draws(draw):
    first = (10,) if draw == "integers" else ()
    whole = Draws(1, 2)
    parts = [Draws(1, 2, part, 4) for part in range(4)]
    for shape in [(), (3,), (2, 2)]:
        expected = getattr(whole, draw)(*first, 8, *shape)
        got = [getattr(p, draw)(*first, 2, *shape) for p in parts]
        assert torch.equal(torch.cat(got), expected)


def test_draws_differ_by_seed_step_and_count_and_repeat():
    base = Draws(1, 2)
    one, two = base.normal(4), base.normal(4)
    assert not torch.equal(one, two)
    for other in (Draws(1, 3), Draws(2, 2)):
        assert not torch.equal(other.normal(4), one)
    assert torch.equal(Draws(1, 2).normal(4), one)


def test_draws_are_standard():
    """Mean and variance within 5 standard errors: a false alarm once in a million."""
    z, u = Draws(7).normal(40_000), Draws(7).uniform(40_000)
    assert abs(z.mean()) < 5 / 200
    assert abs(z.var() - 1) < 5 * (2 / 40_000) ** 0.5
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / 40_000) ** 0.5


@pytest.mark.parametrize("poison", [-1, -3], ids=["draws", "dropout"])
def test_cutting_the_batch_into_micro_batches_changes_nothing(poison):
    whole, cut = Line(poison), Line(poison)
    one, two = fit(whole), fit(cut, accumulate=2)
    torch.testing.assert_close(cut.net.weight, whole.net.weight)
    torch.testing.assert_close(one.logged_metrics["loss"], two.logged_metrics["loss"])
    pairs = torch.tensor(cut.seen).reshape(-1, 2).sum(1)  # Lightning has divided each by 2
    torch.testing.assert_close(pairs, torch.tensor(whole.seen))


@pytest.mark.parametrize("poison", [-1, -2, -3], ids=["draws", "torch's dropout", "dropout"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_is_exact(poison, accumulate, tmp_path):
    straight = Line(poison)
    ema = EMA(0.9)
    fit(straight, 8, accumulate=accumulate, callbacks=[ema])
    half = fit(Line(poison), 3, accumulate=accumulate, callbacks=[EMA(0.9)])
    half.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(123)
    resumed, average = Line(poison), EMA(0.9)
    model_data = {"start": 3 * accumulate, "accumulate": accumulate}
    resume(resumed, tmp_path / "half.ckpt", average, **model_data)
    assert torch.equal(resumed.net.weight, straight.net.weight)
    assert torch.equal(average.average["net.weight"], ema.average["net.weight"])
    assert resumed.seen == straight.seen[3 * accumulate :]


def resume(model, path, ema, start, accumulate):
    data = Numbers(batch=8)
    data.start, data.accumulate, model.seed = start, accumulate, 3
    trainer = L.Trainer(
        max_steps=8,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        accumulate_grad_batches=accumulate,
        callbacks=[ema],
    )
    trainer.fit(model, data, ckpt_path=path, weights_only=True)


def worker(path, poison):
    model = Line(poison)
    trainer = fit(model, devices=2, strategy="ddp")
    if trainer.is_global_zero:
        torch.save([model.net.weight.detach(), trainer.logged_metrics["loss"]], path)


@pytest.mark.parametrize("poison", [-1, -3], ids=["draws", "dropout"])
def test_two_processes_compute_what_one_does(poison, tmp_path):
    together(worker, tmp_path / "two.pt", poison)
    weight, loss = torch.load(tmp_path / "two.pt")
    alone = Line(poison)
    trainer = fit(alone)
    torch.testing.assert_close(weight, alone.net.weight.detach())
    torch.testing.assert_close(loss, trainer.logged_metrics["loss"])


def test_average_is_its_definition():
    ema, model, seen = EMA(0.6), Line(), []

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.append(module.net.weight.detach().clone())

    expected = model.net.weight.detach().clone()
    fit(model, 7, callbacks=[ema, Keep()])
    for n, weight in enumerate(seen, 1):
        keep = min(0.6, (1 + n) / (10 + n))
        expected = keep * expected + (1 - keep) * weight
    torch.testing.assert_close(ema.average["net.weight"], expected)


def test_average_moves_once_for_each_optimiser_step():
    ema = EMA(0.5)
    fit(Line(), 5, accumulate=2, callbacks=[ema])
    assert ema.steps == 5


def test_swap_gives_the_average_inside_and_the_weights_after_an_interrupt():
    ema, model = EMA(0.9), Line()
    fit(model, 3, callbacks=[ema])
    own = model.net.weight.detach().clone()

    def interrupted():
        with ema.swapped(model):
            assert torch.equal(model.net.weight, ema.average["net.weight"])
            assert not torch.equal(model.net.weight, own)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(model.net.weight, own)


def test_average_of_another_model_is_refused():
    ema = EMA(0.9)
    ema.load_state_dict({"steps": 1, "average": {"net.weight": torch.zeros(2, 2)}})
    with pytest.raises(ValueError, match="not those of this model"), ema.swapped(Line()):
        pass
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        EMA(1.0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_nan_stops_before_the_step_and_names_the_term(accumulate):
    healthy, model = Line(), Line(poison=4)
    fit(healthy, 4, accumulate=accumulate)
    with pytest.raises(NotFinite, match="'far' is nan at step 4"):
        fit(model, accumulate=accumulate)
    assert torch.equal(model.net.weight, healthy.net.weight)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    model = Line()
    trainer = fit(model, 2)
    with torch.no_grad():
        model.net.bias[0] = float("inf")
    with pytest.raises(NotFinite, match="not saved"):
        trainer.save_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "bad.ckpt").exists()


@pytest.mark.parametrize("limit", [0.01, 100.0])
def test_gradients_are_clipped_by_the_norm_that_is_known(limit):
    """One step of SGD at 0.1 moves the weights by 0.1 times the gradient, which is no longer than the limit; else as it was."""
    moved = []
    for clip in (None, limit):
        model = Line()
        before = torch.cat([p.detach().flatten() for p in model.parameters()])
        fit(model, 1, gradient_clip_val=clip)
        moved.append(torch.cat([p.detach().flatten() for p in model.parameters()]) - before)
    free, clipped = moved
    wanted = free * min(1.0, 0.1 * limit / free.norm().item())
    torch.testing.assert_close(clipped, wanted, rtol=1e-4, atol=1e-7)
