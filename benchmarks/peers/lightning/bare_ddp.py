"""The least that trains a DDPM on the digits with Lightning's DDP: what `reprise train ddpm_digits` is compared with.

The network and the data are the same, so that only the start differs.
"""

import json
import os
import time

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.nets.unet import UNet

LAUNCHED = float(os.environ["BENCH_LAUNCHED"])


class Bare(L.LightningModule):
    """DDPM's loss and network, without anything of Reprise's training."""

    def __init__(self) -> None:
        super().__init__()
        self.net = UNet(1, width=32, multiples=(1, 2), blocks=2, attention=(1,), head=32)
        self.kept = torch.cumprod(1 - torch.linspace(5e-4, 0.1, 200), 0)

    def training_step(self, batch, _):
        """The mean squared error of the predicted noise."""
        (x,) = batch
        kept = self.kept[torch.randint(200, (len(x),))].view(-1, 1, 1, 1)
        noise = torch.randn_like(x)
        guess = self.net(kept.sqrt() * x + (1 - kept).sqrt() * noise, (1 / kept - 1).log().flatten() / 2)
        return (guess - noise).square().mean()

    def configure_optimizers(self):
        """Adam."""
        return torch.optim.Adam(self.parameters(), 2e-3)


class FirstStep(L.Callback):
    """Prints the time from launch to the first step."""

    def on_train_batch_end(self, trainer, model, *_) -> None:
        """Print the time once."""
        if trainer.is_global_zero:
            print("\n" + json.dumps({"first_step_s": time.time() - LAUNCHED}), flush=True)


def main() -> None:
    """Measure, and print or record the result."""
    torch.set_num_threads(1)
    L.seed_everything(0, verbose=False)
    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    loader = DataLoader(TensorDataset(images), batch_size=64, shuffle=True, drop_last=True)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(
        strategy="ddp",
        devices=2,
        accelerator="cpu",
        max_steps=1,
        callbacks=[FirstStep()],
        gradient_clip_val=1.0,
        **quiet,
    )
    trainer.fit(Bare(), loader)


if __name__ == "__main__":
    main()
