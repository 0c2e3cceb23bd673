"""Every generative model trains, is measured and is sampled on a device whose tensors may not meet the CPU's, as a GPU's may not."""

import math
import sys
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy

from lightning_modules.autoregressive.discrete import Discrete
from lightning_modules.ema import EMA
from lightning_modules.model import Density, Samples
from ray_jobs.train.fit import Trained, evaluate
from ray_jobs.train.sampling import sample
from tests.other_device import other_device

sys.path.insert(0, str(Path(__file__).parent))
from smallest import models, smallest


class StandIn(CPUAccelerator):
    """The accelerator of the stand-in."""

    def setup_device(self, device) -> None:
        pass


@pytest.mark.parametrize("name", sorted(models()))
def test_it_trains_and_is_measured_and_sampled_on_another_device(name, tmp_path):
    (tmp_path / "data").mkdir()  # apart from the samples
    made = smallest(name, tmp_path / "data")
    with other_device() as device:
        trainer = L.Trainer(
            max_steps=made.steps, accelerator=StandIn(), strategy=SingleDeviceStrategy(device=device), logger=False,
            callbacks=[EMA(made.ema)] if made.ema else [], enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, log_every_n_steps=1, use_distributed_sampler=False,
            gradient_clip_val=made.grad_clip or None if made.model.automatic_optimization else None,
        )  # fmt: skip
        trainer.fit(made.model, made.data)
        assert trainer.global_step == made.steps
        model = made.model.to(device).eval()
        assert {p.device for p in model.parameters()} == {device}
        of = Trained(made, model, made.steps)
        metrics = evaluate(of, 0)
        assert all(isinstance(v, float) for v in metrics.values())
        if isinstance(model, Samples) and not (
            isinstance(model, Discrete) and math.prod(model.shape) > 784
        ):  # slow, and done smaller
            sample(of.model, of.made.data, tmp_path, 4)
        if isinstance(model, Density):
            x = made.data.test(4)
            label = x["label"].to(device) if getattr(model, "classes", 0) else None
            assert model.log_prob(x["x"].to(device), label).device == device
