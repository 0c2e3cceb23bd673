"""The private parts of torch and Lightning that are used: each test fails when its part is gone or means something else."""

import inspect

import lightning as L
import pytest
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import MixedPrecision

from lightning_modules import compat


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(3))]


def test_lightning_clips_for_a_fused_optimiser_only_without_amp_scaling():
    fused = torch.optim.Adam(weights(), fused=True)
    assert fused._step_supports_amp_scaling, "torch has renamed what Lightning reads"
    precision = MixedPrecision("16-mixed", "cpu")
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        precision.clip_gradients(fused, 1.0)
    precision.clip_gradients(compat.without_amp_scaling(fused), 1.0)


class Two(L.LightningModule):
    """Two optimisers by hand, of which one does not count."""

    def __init__(self, uncount: bool) -> None:
        super().__init__()
        self.nets = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(2))
        self.automatic_optimization, self.uncount = False, uncount

    def training_step(self, batch, index):
        first, second = self.optimizers()
        for optimizer in (compat.uncounted(first) if self.uncount else first, second):
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(net.parameters(), 0.1) for net in self.nets]


@pytest.mark.parametrize(("uncount", "steps"), [(False, 6), (True, 3)])
def test_steps_of_an_uncounted_optimiser_do_not_count(uncount, steps):
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Two(uncount), torch.utils.data.DataLoader(torch.zeros(3, 1)))
    assert trainer.global_step == steps
    source = inspect.getsource(LightningOptimizer)
    assert "self._on_before_step()" in source and "self._on_after_step()" in source


def test_a_module_without_a_trainer_has_none():
    module = L.LightningModule()
    assert compat.trainer_of(module) is None
    with pytest.raises(RuntimeError, match="not attached"):
        _ = module.trainer
    module.trainer = trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    assert compat.trainer_of(module) is trainer


def test_kernels_for_many_tensors_compute_what_single_ones_do():
    rng = torch.Generator().manual_seed(0)
    one, two = ([torch.randn(size, generator=rng) for size in (3, 5)] for _ in range(2))
    torch.testing.assert_close(compat.norms(one), [t.norm() for t in one])
    wanted = [a + 0.3 * (b - a) for a, b in zip(one, two, strict=True)]
    compat.lerp_(one, two, 0.3)
    torch.testing.assert_close(one, wanted)
    compat.scale_(one, 2.0)
    torch.testing.assert_close(one, [2 * t for t in wanted])
