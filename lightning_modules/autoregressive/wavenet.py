"""WaveNet: a wave told sample after sample by stacks of dilated causal convolutions with gates.

Source: van den Oord et al. 2016, arXiv:1609.03499, section 2.
Differs: kernels of two samples throughout; what conditions locally is held between its frames, not upsampled by a network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.autoregressive.cached_sampler import generate
from lightning_modules.autoregressive.discrete import Discrete
from lightning_modules.model import Batch, evaluating


class Layer(nn.Module):
    """x [B, T, R] -> what is added to it and to the sum of skips, [B, T, R + S] (eq. 2, 3 and figure 4).

    Args:
        residual, skip: R and S.
        dilation: how many samples lie between the two that meet.
        told: numbers that condition every sample.
    """

    def __init__(self, residual: int, skip: int, dilation: int, told: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.meet = nn.Linear(2 * residual, 2 * residual)  # the earlier sample, then the own one
        self.told = nn.Linear(told, 2 * residual, bias=False) if told else None
        self.leave = nn.Linear(residual, residual + skip)

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        earlier = F.pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        sums = self.meet(torch.cat([earlier, x], 2))
        if self.told is not None:
            sums = sums + self.told(told)
        content, gate = sums.chunk(2, 2)
        return self.leave(content.tanh() * gate.sigmoid())


class WaveNet(Discrete):
    """Waves [B, T] in [-1, 1], of which the model knows the mu-law level.

    Args:
        length: T of the waves that `sample` draws; others are scored and learned from as well.
        levels: of mu-law.
        layers: in all stacks together.
        stacks: in each, the dilation doubles from 1.
        residual, skip: features.
        classes: number of labels that condition globally (section 2.5); 0: none.
        local: features of each frame that conditions locally; 0: none.
        hop: samples of a frame.
        rate: samples per second, for who listens.
        lr, warmup: as in `Discrete`.

    Raises:
        ValueError: the layers do not divide into the stacks.
    """

    def __init__(
        self,
        length: int,
        *,
        levels: int = 256,
        layers: int = 30,
        stacks: int = 3,
        residual: int = 64,
        skip: int = 256,
        classes: int = 0,
        local: int = 0,
        hop: int = 1,
        rate: int = 16_000,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        super().__init__((length,), levels=levels, classes=classes, lr=lr, warmup=warmup)
        if stacks < 1 or layers % stacks:
            raise ValueError(f"{layers} layers do not divide into {stacks} stacks: take a multiple.")
        self.residual, self.local, self.hop, self.rate = residual, local, hop, rate
        self.now, self.before = (
            nn.Embedding(levels + 1, residual) for _ in range(2)
        )  # the last stands for silence before
        for table in (self.now, self.before):
            nn.init.normal_(table.weight, std=0.5)
        dilations = [2 ** (i % (layers // stacks)) for i in range(layers)]
        self.layers = nn.ModuleList(Layer(residual, skip, d, classes + local) for d in dilations)
        self.head, self.leave = nn.Linear(skip, skip), nn.Linear(skip, levels)

    @property
    def reach(self) -> int:
        """How many earlier samples each is told from."""
        return 2 + sum(layer.dilation for layer in self.layers)  # type: ignore[operator, misc]

    # ---- mu-law (section 2.2)

    def level(self, x: Tensor) -> Tensor:
        mu = self.levels - 1
        self.check(x)
        squeezed = x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)
        return ((squeezed + 1) * (mu / 2)).round().long()

    def value(self, level: Tensor) -> Tensor:
        mu = self.levels - 1
        squeezed = level.to(self.dtype) * (2 / mu) - 1
        return squeezed.sign() * torch.expm1(squeezed.abs() * math.log1p(mu)) / mu

    def check(self, x: Tensor) -> None:
        if x.dim() != 2:
            raise ValueError(f"WaveNet takes waves [B, T], not {tuple(x.shape)}.")
        if x.device.type == "cpu" and not x.abs().amax() <= 1:
            raise ValueError("WaveNet takes waves in [-1, 1], and was given values beyond or not finite.")

    # ---- the network

    def conditions(self, label: Tensor | None, local: Tensor | None, length: int) -> Tensor | None:
        """What every sample is told, [B, T or 1, classes + local]; None: nothing.

        Args:
            local: frames [B, local, F] of `hop` samples each.
        """
        hot = self.told(label)
        if not self.local:
            return hot[:, None] if hot is not None else None
        if local is None or local.shape[1] != self.local or local.shape[2] * self.hop < length:
            raise ValueError(f"WaveNet needs {self.local} local features for each of {length} samples.")
        held = local.repeat_interleave(self.hop, 2)[:, :, :length].mT
        return held if hot is None else torch.cat([hot[:, None].expand(-1, length, -1), held], 2)

    def embed(self, level: Tensor) -> Tensor:
        """A causal convolution of the one-hot levels [B, T] before each sample: [B, T, R]."""
        past = F.pad(level, (2, 0), value=self.levels)
        return self.now(past[:, 1:-1]) + self.before(past[:, :-2])

    def body(self, x: Tensor, told: Tensor | None) -> Tensor:
        """[B, T, R] -> [B, T, levels]."""
        skips: Tensor | float = 0.0
        for layer in self.layers:
            more, skip = layer(x, told).split([self.residual, self.head.in_features], 2)
            x, skips = x + more, skips + skip
        return self.leave(self.head(torch.relu(skips)).relu())

    def logits(self, x: Tensor, cond: Tensor | None, local: Tensor | None = None) -> Tensor:
        return self.body(self.embed(self.level(x)), self.conditions(cond, local, x.shape[1]))

    def nats(self, x: Tensor, cond: Tensor | None, local: Tensor | None = None) -> Tensor:
        logs = self.logits(x, cond, local).log_softmax(-1)
        return logs.gather(-1, self.level(x)[..., None])[..., 0]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Nats per sample; 'local' of the batch conditions locally."""
        return {"nll": -self.nats(batch["x"], batch.get("label"), batch.get("local")).mean()}

    def log_prob(self, x: Tensor, cond: Tensor | None = None, local: Tensor | None = None) -> Tensor:
        """Exact log probability [B] of the levels of waves [B, T], in nats.

        Args:
            cond: labels [B].
            local: frames [B, local, F].
        """
        with evaluating(self):
            return self.nats(x, cond, local).sum(1)

    # ---- samples

    @torch.inference_mode()
    def sample(
        self,
        n: int,
        cond: Tensor | None = None,
        *,
        rng: torch.Generator | None = None,
        naive: bool = False,
        local: Tensor | None = None,
        length: int | None = None,
    ) -> Tensor:
        """Waves [n, length], by default as long as the model's.

        Args:
            cond: labels [n]; a conditioned model without them takes its classes in turn.
            naive: compute the whole network for each sample.
            local: frames [n, local, F].
        """
        length = length or self.shape[0]
        even = torch.rand(n, length, generator=rng, device=rng.device if rng else "cpu").to(self.device, self.dtype)
        if self.classes and cond is None:
            cond = torch.arange(n, device=self.device) % self.classes
        with evaluating(self):
            told = self.conditions(cond, local, length)
            return self.value(self.whole(even, told) if naive else generate(self, even, told))

    def whole(self, even: Tensor, told: Tensor | None) -> Tensor:
        """Levels [n, T] by the definition: the whole network for each sample."""
        from lightning_modules.autoregressive.discrete import pick

        found = torch.zeros(even.shape, dtype=torch.long, device=even.device)
        for t in range(even.shape[1]):
            found[:, t] = pick(self.body(self.embed(found), told)[:, t], even[:, t])
        return found
