"""Every system of diffusion trains alike on one worker and on several, with micro-batches, and after any interruption.

What one worker computes of its rows is compared in this process for every recipe; what workers exchange, in a group of two. Batches
are global: pairs by optimal transport, losses that a resampler remembers, and rows whose labels are hidden.
"""

import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from lightning_modules.diffusion.resampling import KEPT
from lightning_modules.draws import Draws
from lightning_modules.dropout import Dropout
from lightning_modules.ema import EMA
from lightning_modules.staged import Staged
from ray_jobs.recipe.loading import recipe
from ray_jobs.recipe.plan import Fit
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.train.launch import launch
from tests.ray_jobs.command import equal, lines

sys.path.insert(0, str(Path(__file__).parent))
from smallest import models, smallest

DIFFUSION = [
    n
    for n in models()
    if recipe(n).family in ("diffusion", "multistage") and not any(big in n for big in ("imagenet", "coco"))
]  # slow, and of no other code
ROWS = 8
"""Of a global batch."""
FAST = {"lr": 0.02, "warmup": 0}
"""Learning, where the target network's distance to the network shall matter."""
STATEFUL = {
    "ddpm_mixture2d": {},
    "edm": {"drop": 0.5},
    "flow_matching": {"transport": True, "drop": 0.5},
    "iddpm_gauss_image@bound": {"batch": 64, "size": 2},
    "consistency_mixture2d@training": FAST,
    "consistency_mixture2d@improved": FAST,
    "consistency_mixture2d": FAST,
    "glide_shapes@clip": {"clip_steps": 3},
    "reflow_mixture2d": {},
    "pd_mixture2d": {},
    "cascade_gauss_pair": {},
    "ncsn_mixture2d": {},
    "controlnet_shapes": {},
    "ldm_shapes": {},
    "ldm_shapes@vq": {},
}
"""Recipes in which something else than weights and the optimiser carries over from step to step, or might, and their settings."""
WHOLE = {"glide_shapes@clip": (0,), "glide_emoji": (0,), "edm_emoji": (0,), "clip_shapes": (0,), "clip_emoji": (0,)}
"""Stages whose loss compares all rows of a global batch, so that it cannot be cut into micro-batches."""
STEPS = {"iddpm_gauss_image@bound": 10, "cascade_gauss_pair": 8}
"""Of a training, where 6 are too few; the history of the resampler is full after 8, and a quarter of a cascade's steps is its base's."""
AVERAGE = 0.9


def steps_of(name: str) -> int:
    return STEPS.get(name, 6)


def loud(made: Fit) -> Fit:
    """The plan with random weights in place of zeros, so that every loss depends on every weight."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=rng))
    return made


def parts_of(model) -> int:
    return len(model.stages) if isinstance(model, Staged) else 1


def gradient(made: Fit, stage: int, parts: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The mean loss of a global batch that is cut into parts, and its gradient by weight."""
    made.model.zero_grad()
    if isinstance(made.model, Staged):
        made.model.current = stage
    made.model.train()
    source = made.data.paired(made.data.source) if made.data.paired else made.data.source
    total = 0.0
    for part in range(parts):
        first, last = (ROWS * k // parts for k in (part, part + 1))
        made.model.draws = Draws(3, 0, part, parts)
        for layer in made.model.modules():
            if isinstance(layer, Dropout):
                layer.draws = made.model.draws
        loss = torch.stack(list(made.model.losses(source.rows(3, 0, ROWS, first, last)).values())).sum() / parts
        loss.backward()
        total += loss.item()
    return total, {k: p.grad.clone() for k, p in made.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", DIFFUSION)
def test_the_parts_of_a_global_batch_have_the_loss_and_the_gradient_of_the_whole(name, tmp_path):
    made = loud(smallest(name, tmp_path, batch=ROWS))
    made.data.setup("fit")
    for stage in set(range(parts_of(made.model))) - set(WHOLE.get(name, ())):
        (one, whole), (four, parts) = gradient(made, stage, 1), gradient(made, stage, 4)
        assert one == pytest.approx(four, rel=1e-4) and whole.keys() == parts.keys()
        assert sum(g.abs().sum().item() for g in whole.values()) > 0
        for weight, expected in whole.items():
            torch.testing.assert_close(
                parts[weight], expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item() + 1e-9
            )


class Watch(L.Callback):
    """Keeps the loss of each step, and writes a checkpoint of each into the folder `save`, or what each worker ends with into `ends`."""

    def __init__(self, save: Path | None = None, ends: Path | None = None) -> None:
        self.save, self.ends, self.losses = save, ends, {}

    def on_train_batch_end(self, trainer, model, *_) -> None:
        if trainer.global_step not in self.losses and "loss" in trainer.callback_metrics:
            self.losses[trainer.global_step] = trainer.callback_metrics["loss"].item()
            if self.save:
                trainer.save_checkpoint(self.save / f"{trainer.global_step}.ckpt")

    def on_train_end(self, trainer, model) -> None:
        if self.ends:
            torch.save([model.state_dict(), self.losses], self.ends / f"{trainer.global_rank}.pt")


def trained(name, folder, *, load=None, accumulate=1, save=None, ends=None, **trainer):
    """The model after its training, continued from the checkpoint `load`, the average of its weights, and its losses by step."""
    made = smallest(name, folder, **{"batch": ROWS, "accumulate": accumulate, "steps": steps_of(name)} | STATEFUL[name])
    made.data.start, watch, average = int(load.stem) if load else 0, Watch(save, ends), EMA(AVERAGE)
    L.Trainer(
        max_steps=steps_of(name), accelerator="cpu", accumulate_grad_batches=accumulate, callbacks=[average, watch], logger=False,
        enable_model_summary=False, enable_progress_bar=False, enable_checkpointing=False, use_distributed_sampler=False,
        limit_val_batches=0, log_every_n_steps=1, **{"devices": 1} | trainer,
    ).fit(made.model, made.data, ckpt_path=load)  # fmt: skip
    return made.model, average, watch.losses


@pytest.mark.parametrize("name", STATEFUL)
def test_a_training_resumes_to_the_same_bits_from_every_step(name, tmp_path):
    whole, average, losses = trained(name, tmp_path, save=tmp_path)
    ends = whole.ends[:-1] if isinstance(whole, Staged) else [3]
    (tmp_path / "again").mkdir()
    for step in sorted({s for end in ends for s in (end - 1, end, end + 1)}):
        model, again, later = trained(name, tmp_path, load=tmp_path / f"{step}.ckpt", save=tmp_path / "again")
        assert later == {k: v for k, v in losses.items() if k > step}
        assert equal(model.state_dict(), whole.state_dict()) and equal(again.state_dict(), average.state_dict())
        last = f"{steps_of(name)}.ckpt"
        ours, theirs = (torch.load(at / last, weights_only=True) for at in (tmp_path / "again", tmp_path))
        assert all(equal(ours[k], theirs[k]) for k in ("optimizer_states", "lr_schedulers"))


@pytest.mark.parametrize("name", [name for name in STATEFUL if name not in WHOLE])
def test_micro_batches_change_no_loss(name, tmp_path):
    (model, _, one), (other, _, two) = trained(name, tmp_path), trained(name, tmp_path, accumulate=2)
    assert two == pytest.approx(one, rel=1e-3)
    check_history(model.state_dict(), other.state_dict())


def check_history(one, other) -> None:
    """That two resamplers, where there are some, hold the losses of the same terms, and enough of them to be in use."""
    if "resampler.count" in one:
        count, history = one["resampler.count"], one["resampler.history"]
        assert (count >= KEPT).all() and torch.equal(count, other["resampler.count"])
        torch.testing.assert_close(other["resampler.history"], history, rtol=1e-2, atol=1e-4)


PAIR = [
    "flow_matching",
    "iddpm_gauss_image@bound",
    "consistency_mixture2d",
    "consistency_mixture2d@training",
    "pd_mixture2d",
    "cascade_gauss_pair",
    "glide_shapes@clip",
    "controlnet_shapes",
    "ldm_shapes@vq",
]
"""Recipes that a group of two trains in the tests."""


def in_a_pair(folder: Path) -> None:
    """Train the recipes of PAIR by two forked workers, with DDP as `ddp_worker` sets it up; each writes what it ends with."""
    torch.set_num_threads(1)
    for name in PAIR:
        (folder / name).mkdir()
        strategy = DDPStrategy(start_method="fork", broadcast_buffers=False, gradient_as_bucket_view=True)
        trained(name, folder / name, ends=folder / name, devices=2, strategy=strategy)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two workers end with, in a folder for each recipe."""
    folder, root = tmp_path_factory.mktemp("pair"), Path(__file__).parents[3]
    code = f"from pathlib import Path; from tests.ray_jobs.recipes.test_diffusion_runs import in_a_pair; in_a_pair(Path({str(folder)!r}))"
    env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", PAIR)
def test_two_workers_take_the_steps_of_one(name, pair, tmp_path):
    (first, losses), (second, _) = (torch.load(pair / name / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert equal(first, second)  # histories and target networks too
    model, _, alone = trained(name, tmp_path)
    assert losses == pytest.approx(alone, rel=1e-3)
    check_history(model.state_dict(), first)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("improved_ddpm", {"levels": 25, "objective": "bound"}),
        pytest.param("progressive_distillation", {"first": 4, "halvings": 1}, marks=pytest.mark.slow),
    ],
)
def test_a_group_of_two_processes_takes_the_steps_of_one(name, own, tmp_path):
    settings = {"data": "moons", "width": 8, "steps": 10, "batch": 64, "save_every": 5, "log_every": 1}
    one, two = (
        launch(Spec(name, settings | own, 1, Where(workers=n, address="local"), str(tmp_path / str(n)))) for n in (1, 2)
    )
    for a, b in zip(lines(one.path), lines(two.path), strict=True):
        assert a["step"] == b["step"] and b["loss"] == pytest.approx(a["loss"], rel=1e-3)
    check_history(*(run.latest()["state_dict"] for run in (one, two)))
