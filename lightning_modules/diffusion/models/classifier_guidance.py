"""Classifier guidance: the gradient of a classifier of noised examples leads a diffusion model's samples to a class.

System: Classifier guidance
Source: Dhariwal & Nichol 2021, arXiv:2105.05233, section 4, algorithms 1 (own reverse steps) and 2 (all other samplers).
Differs: the classifier's examples are not cropped at random; the network is given the logarithm of the level. Where estimates of x0 are
clipped, a sampler of algorithm 2 clips them after the classifier's shift, and the authors' code before it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.conditions import Cond, check_labels
from lightning_modules.diffusion.denoising import Denoising
from lightning_modules.diffusion.preconditioning import append_dims
from lightning_modules.diffusion.schedules import discrete
from lightning_modules.model import Batch, Generative, evaluating
from lightning_modules.optim import AdamW, Optim
from lightning_modules.staged import Stage, Staged


class NoisyClassifier(Generative):
    """A classifier of y = x0 + sigma n, which learns by the cross-entropy at the levels at which a diffusion model learns.

    Args:
        net: (c_in y [B, *D], level [B]) -> logits [B, classes], such as `nets.encoders.UNetEncoder`.
        diffusion: the model that it is to guide: at its levels (those of its bound's table, where its losses are its own), with its scale
            of the input, and in its space.
        classes: number of labels.
        optim: of the network.
    """

    averaged = "net."

    def __init__(
        self,
        net: nn.Module,
        diffusion: Denoising,
        *,
        classes: int,
        optim: Optim = AdamW(3e-4, weight_decay=0.05),  # frozen
    ) -> None:
        super().__init__()
        self.net, self.shape, self.classes, self.optim = net, diffusion.shape, classes, optim
        self.levels = diffusion.learn.levels if diffusion.learn else partial(discrete, levels=diffusion.bound.levels)
        self.precondition, self.level_input = diffusion.precondition, diffusion.level_input
        self.encode, self.in_range = diffusion.space.encode, diffusion.in_range

    def logits(self, y: Tensor, sigma: Tensor) -> Tensor:
        """Of the classes of y [B, *D] at the levels sigma [B]; [B, classes]."""
        return self.net(append_dims(self.precondition(sigma).c_in, y) * y, self.level_input(sigma)).float()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The cross-entropy [] of the labels.

        Raises:
            ValueError: the batch has no labels, or one that is no class.
        """
        if "label" not in batch:
            raise ValueError("A classifier needs data with labels.")
        check_labels(batch["label"], self.classes)
        with torch.no_grad():
            x0 = self.encode(self.in_range(batch["x"]), self.draws)
        sigma = self.levels(self.draws.uniform(len(x0), device=x0.device)).to(x0)
        n = self.draws.normal(*x0.shape, device=x0.device).to(x0)
        logits = self.logits(x0 + append_dims(sigma, x0) * n, sigma)
        return {"cross_entropy": F.cross_entropy(logits, batch["label"])}

    def log_label(self, y: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        """log p(label | y) [B] of y [B, *D] at the levels sigma [B]; see `guidance.LogLabel`.

        Raises:
            ValueError: there are no labels, or one is no class.
        """
        if cond.label is None:
            raise ValueError("A classifier guides to labels: give label.")
        check_labels(cond.label.cpu(), self.classes)
        with evaluating(self):
            return self.logits(y, sigma).log_softmax(1).gather(1, cond.label.clone()[:, None])[:, 0]


def classifier_guidance(
    diffusion: Denoising,
    net: nn.Module,
    *,
    classes: int,
    steps: int,
    classifier_steps: int,
    optim: Optim = AdamW(3e-4, weight_decay=0.05),  # frozen
) -> Staged:
    """A noisy classifier, then the diffusion model that it guides: the last part, which is sampled.

    Args:
        diffusion: any diffusion model, with labels or without; its optimiser must be of the class of `optim`. One whose `Draw.sampler` is
            None, such as Improved DDPM, is drawn by algorithm 1.
        net: of the classifier.
        classes: number of labels.
        steps: of both together.
        classifier_steps: of the classifier; 0 where it comes from another run.
        optim: of the classifier.

    Raises:
        ValueError: there are no classes, or the classifier has more than all steps.
    """
    if classes < 2:
        raise ValueError("Classifier guidance needs data with labels.")
    if not 0 <= classifier_steps <= steps:
        raise ValueError(f"The classifier takes {classifier_steps} of {steps} steps: take at least 0 and at most all.")
    classifier = NoisyClassifier(net, diffusion, classes=classes, optim=optim)
    diffusion.draw = replace(diffusion.draw, classifier=classifier.log_label)
    stages = Stage("classifier", classifier, classifier_steps), Stage("diffusion", diffusion, steps - classifier_steps)
    return Staged(stages)
