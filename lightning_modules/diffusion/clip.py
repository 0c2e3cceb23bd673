"""CLIP: one network of images and one of captions, whose features agree for pairs and for no other; of clean images, or of noised ones.

System: CLIP
Source: Radford et al. 2021, arXiv:2103.00020, section 2.3 and figure 3 (loss), section 2.5 (temperature); noised: Nichol et al. 2021,
arXiv:2112.10741, section 2.4. Optimum of the loss: van den Oord et al. 2018, arXiv:1807.03748, section 2.3.
Differs: the images' network is the way down of a U-Net, given the logarithm of the noise level; the temperature is learned for noised
images too, where the authors of GLIDE release one that is fixed.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.conditions import Cond
from lightning_modules.diffusion.denoising import Denoising
from lightning_modules.diffusion.preconditioning import append_dims
from lightning_modules.diffusion.schedules import discrete
from lightning_modules.model import Batch, Generative, evaluating
from lightning_modules.nets.text.transformer import TextTransformer
from lightning_modules.optim import AdamW, Optim

FIRST, MOST = 1 / 0.07, 100.0
"""The factor of inner products (the inverse of the temperature) at first, and the largest that it may become."""


class CLIP(Generative):
    """Features of images and of captions, trained to tell the pairs of a global batch from all other combinations.

    At its optimum the inner product of the features, times the factor, is log p(image | caption) - log p(image) and a constant, so that
    its gradient guides an unconditional diffusion as a classifier's does (`log_ratio`).

    Args:
        image: (c_in y [B, *D], level [B]) -> features [B, E], such as `nets.encoders.UNetEncoder`.
        text: tokens [B, L] -> `Text`, causal.
        features: E.
        diffusion: the model that it is to guide: at its levels, with its scale of the input, and in its space; None: of clean images.
        shape: of an example, where there is no diffusion.
        optim: of both networks.
    """

    averaged = ""

    def __init__(
        self,
        image: nn.Module,
        text: TextTransformer,
        *,
        features: int,
        diffusion: Denoising | None = None,
        shape: tuple[int, ...] = (),
        optim: Optim = AdamW(3e-4, weight_decay=0.05),  # frozen
    ) -> None:
        super().__init__()
        self.image, self.text, self.optim = image, text, optim
        self.project = nn.Linear(text.width, features, bias=False)
        self.log_factor = nn.Parameter(torch.tensor(math.log(FIRST)))
        self.noised = diffusion is not None
        if diffusion is None:
            self.shape = tuple(shape)
            return
        self.shape, self.precondition, self.level_input = diffusion.shape, diffusion.precondition, diffusion.level_input
        self.levels = diffusion.learn.levels if diffusion.learn else partial(discrete, levels=diffusion.bound.levels)
        self.encode, self.in_range = diffusion.space.encode, diffusion.in_range

    def prepare(self, seed: int, *, accumulate: int = 1, grad_clip: float = 0.0) -> None:
        """As in `Generative`.

        Raises:
            ValueError: the global batch is cut into micro-batches, within which too few combinations would be compared.
        """
        super().prepare(seed, accumulate=accumulate, grad_clip=grad_clip)
        if accumulate > 1:
            raise ValueError(
                f"CLIP compares all pairs of a global batch, so that it cannot be cut into {accumulate} micro-batches: "
                "take --accumulate 1."
            )

    @property
    def factor(self) -> Tensor:
        """The factor [] of inner products."""
        return self.log_factor.exp().clamp(max=MOST)

    def of_images(self, y: Tensor, sigma: Tensor) -> Tensor:
        """Features [B, E] of length 1 of y [B, *D] at the levels sigma [B], which are 0 for clean images."""
        if not self.noised:
            return F.normalize(self.image(y, sigma).float(), dim=1)
        scaled = append_dims(self.precondition(sigma).c_in, y) * y
        return F.normalize(self.image(scaled, self.level_input(sigma)).float(), dim=1)

    def of_captions(self, tokens: Tensor) -> Tensor:
        """Features [B, E] of length 1 of captions [B, L]."""
        return F.normalize(self.project(self.text(tokens).vector).float(), dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The contrastive loss [] of this worker's rows against the columns of the whole global batch.

        Raises:
            ValueError: the batch has no captions.
        """
        if "caption" not in batch:
            raise ValueError("CLIP needs data with captions.")
        y, sigma = self._noised(batch["x"])
        ours = self.of_images(y, sigma), self.of_captions(batch["caption"])
        images, captions = (self._of_all(x) for x in ours)
        first = len(y) * self._rank
        return {"contrastive": contrastive(ours, (images, captions), first, self.factor)}

    def log_ratio(self, y: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        """log p(y | caption) - log p(y) [B] and a constant, of y [B, *D] at levels sigma [B]; a `guidance.LogLabel`.

        The inner product itself, and no logarithm of a softmax over captions, whose gradient lacks what all captions share.

        Raises:
            ValueError: there are no captions.
        """
        if cond.tokens is None:
            raise ValueError("CLIP guides to captions: give a prompt.")
        with evaluating(self):
            with torch.no_grad():
                captions = self.of_captions(cond.tokens.to(y.device))
            return self.factor.detach() * (self.of_images(y, sigma) * captions).sum(1)

    def _noised(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Examples at levels of the diffusion, and these levels."""
        if not self.noised:
            return self.fitting(x), x.new_zeros(len(x))
        with torch.no_grad():
            x0 = self.encode(self.in_range(x), self.draws)
        sigma = self.levels(self.draws.uniform(len(x0), device=x0.device)).to(x0)
        return x0 + append_dims(sigma, x0) * self.draws.normal(*x0.shape, device=x0.device).to(x0), sigma

    def _of_all(self, x: Tensor) -> Tensor:
        """The features of all workers [W B, E]; the backward pass sums what each worker's loss asks of them."""
        return x if self._workers == 1 else self.all_gather(x, sync_grads=True).flatten(0, 1)  # type: ignore[union-attr]

    @property
    def _workers(self) -> int:
        return self.trainer.world_size if self._fabric is None and self._trainer is not None else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self._workers > 1 else 0


def contrastive(ours: tuple[Tensor, Tensor], all_: tuple[Tensor, Tensor], first: int, factor: Tensor) -> Tensor:
    """The mean [] of two cross-entropies: of the caption of each image among all, and of the image of each caption.

    Args:
        ours: features of images and captions [B, E], pair by pair.
        all_: those of the global batch [N, E].
        first: place of our first pair among them.
        factor: of the inner products.
    """
    (image, caption), (images, captions) = ours, all_
    own = torch.arange(first, first + len(image), device=image.device)
    return (F.cross_entropy(factor * image @ captions.T, own) + F.cross_entropy(factor * caption @ images.T, own)) / 2
