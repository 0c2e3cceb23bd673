"""WaveNet: a wave predicted sample after sample by stacks of dilated causal convolutions with gates.

System: WaveNet
Source: van den Oord et al. 2016, arXiv:1609.03499, section 2.
Differs: kernels of two samples throughout; local conditions are held constant within a frame, not upsampled by a network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules import draws
from lightning_modules.autoregressive.cached_sampler import generate
from lightning_modules.autoregressive.discrete import Discrete, sample_categorical
from lightning_modules.conditions import without_labels
from lightning_modules.model import Batch, evaluating
from lightning_modules.optim import Adam, Optim


class Layer(nn.Module):
    """x [B, T, R] -> the residual, added to x, and the skip, [B, T, R + S]: eq. 2, 3 and figure 4.

    Args:
        residual, skip: R and S.
        dilation: samples between the two inputs of the convolution.
        cond: C, features that condition every sample; 0: none.
    """

    def __init__(self, residual: int, skip: int, dilation: int, cond: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.filter_gate = nn.Linear(2 * residual, 2 * residual)  # of the earlier sample and the own one
        self.condition = nn.Linear(cond, 2 * residual, bias=False) if cond else None
        self.leave = nn.Linear(residual, residual + skip)

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        earlier = F.pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        sums = self.filter_gate(torch.cat([earlier, x], 2))
        if self.condition is not None:
            sums = sums + self.condition(cond)
        content, gate = sums.chunk(2, 2)
        return self.leave(content.tanh() * gate.sigmoid())


class WaveNet(Discrete):
    """WaveNet of waves [B, T] in [-1, 1], quantised to mu-law levels.

    Args:
        length: T of the waves that `sample` draws; `losses` and `log_prob` take any length.
        levels: of mu-law.
        layers: number of layers in all stacks together.
        stacks: number of stacks; in each, the dilation doubles from 1.
        residual, skip: features R of the layers, and S of the sum of skips.
        classes: number of labels that condition globally (section 2.5); 0: none.
        local: features of each frame that conditions locally; 0: none.
        hop: samples of a frame.
        rate: samples per second, with which samples are written to WAV files.
        optim: as in `Discrete`.

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
        optim: Optim = Adam(),
    ) -> None:
        super().__init__((length,), levels=levels, classes=classes, optim=optim)
        if stacks < 1 or layers % stacks:
            raise ValueError(f"{layers} layers do not divide into {stacks} stacks: take a multiple.")
        self.residual, self.local, self.hop, self.rate = residual, local, hop, rate
        self.now, self.before = (
            nn.Embedding(levels + 1, residual) for _ in range(2)
        )  # the last row stands for the silence before a wave
        for table in (self.now, self.before):
            nn.init.normal_(table.weight, std=0.5)
        dilations = [2 ** (i % (layers // stacks)) for i in range(layers)]
        self.layers = nn.ModuleList(Layer(residual, skip, d, classes + local) for d in dilations)
        self.head, self.leave = nn.Linear(skip, skip), nn.Linear(skip, levels)

    @property
    def reach(self) -> int:
        """Size of the receptive field: how many earlier samples each sample depends on."""
        return 2 + sum(layer.dilation for layer in self.layers)  # type: ignore[operator, misc]

    # ---- mu-law (section 2.2)

    def level(self, x: Tensor) -> Tensor:
        """The mu-law level, long, of amplitudes [B, T] in [-1, 1]."""
        mu = self.levels - 1
        self.check(x)
        companded = x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)
        return ((companded + 1) * (mu / 2)).round().long()

    def value(self, level: Tensor) -> Tensor:
        """The amplitude in [-1, 1] of each mu-law level."""
        mu = self.levels - 1
        companded = level.to(self.dtype) * (2 / mu) - 1
        return companded.sign() * torch.expm1(companded.abs() * math.log1p(mu)) / mu

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless x is of waves [B, T] in [-1, 1] (the values are looked at on a CPU only)."""
        if x.dim() != 2:
            raise ValueError(f"WaveNet takes waves [B, T], not {tuple(x.shape)}.")
        if x.device.type == "cpu" and not x.abs().amax() <= 1:
            raise ValueError("WaveNet takes waves in [-1, 1], and was given values beyond or not finite.")

    # ---- the network

    def conditions(self, label: Tensor | None, local: Tensor | None, length: int) -> Tensor | None:
        """The conditions of every sample, [B, T or 1, classes + local]; None: there are none.

        Args:
            label: [B].
            local: frames [B, local, F] of `hop` samples each.
            length: T.

        Raises:
            ValueError: labels or frames are missing, or there are too few frames.
        """
        hot = self.one_hot(label)
        if not self.local:
            return hot[:, None] if hot is not None else None
        if local is None or local.shape[1] != self.local or local.shape[2] * self.hop < length:
            raise ValueError(f"WaveNet needs {self.local} local features for each of {length} samples.")
        held = local.repeat_interleave(self.hop, 2)[:, :, :length].mT
        return held if hot is None else torch.cat([hot[:, None].expand(-1, length, -1), held], 2)

    def embed(self, level: Tensor) -> Tensor:
        """Features [B, T, R] of the two samples before each sample: a causal convolution of their one-hot levels [B, T]."""
        past = F.pad(level, (2, 0), value=self.levels)
        return self.now(past[:, 1:-1]) + self.before(past[:, :-2])

    def body(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Features [B, T, R] and conditions [B, T or 1, C] -> logits [B, T, levels]."""
        skips: Tensor | float = 0.0
        for layer in self.layers:
            residual, skip = layer(x, cond).split([self.residual, self.head.in_features], 2)
            x, skips = x + residual, skips + skip
        return self.leave(self.head(torch.relu(skips)).relu())

    def logits(self, x: Tensor, cond: Tensor | None, local: Tensor | None = None) -> Tensor:
        return self.body(self.embed(self.level(x)), self.conditions(cond, local, x.shape[1]))

    def nats(self, x: Tensor, cond: Tensor | None, local: Tensor | None = None) -> Tensor:
        logs = self.logits(x, cond, local).log_softmax(-1)
        return logs.gather(-1, self.level(x)[..., None])[..., 0]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean negative log probability of a sample, in nats; 'local' in the batch holds frames that condition locally."""
        return {"nll": -self.nats(batch["x"], batch.get("label"), batch.get("local")).mean()}

    def log_prob(self, x: Tensor, cond: Tensor | None = None, local: Tensor | None = None) -> Tensor:
        """Exact log probability [B] of the levels of waves [B, T], in nats.

        Args:
            x: waves.
            cond: labels [B].
            local: frames [B, local, F].
        """
        without_labels(cond, self.classes)
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
        """Waves [n, length].

        Args:
            n: how many.
            cond: labels [n]; without them, a conditioned model takes its classes in turn.
            rng: source of randomness; None: torch's own.
            naive: compute the whole network for each sample.
            local: frames [n, local, F].
            length: None: that of the model.
        """
        without_labels(cond, self.classes)
        length = length or self.shape[0]
        uniform = draws.uniform(n, length, rng=rng).to(self.device, self.dtype)
        if self.classes and cond is None:
            cond = torch.arange(n, device=self.device) % self.classes
        with evaluating(self):
            conditions = self.conditions(cond, local, length)
            return self.value((self.whole if naive else self.cached)(uniform, conditions))

    def cached(self, uniform: Tensor, cond: Tensor | None) -> Tensor:
        """Levels [n, T], drawn by uniform values [n, T] and conditions [n, T or 1, C], with each layer's past cached."""
        tables = (self.now.weight, self.before.weight)
        return generate(list(self.layers), tables, (self.head, self.leave), uniform, cond)  # type: ignore[arg-type]

    def whole(self, uniform: Tensor, cond: Tensor | None) -> Tensor:
        """As `cached`, by the definition: the whole network for each sample."""
        found = torch.zeros(uniform.shape, dtype=torch.long, device=uniform.device)
        for t in range(uniform.shape[1]):
            found[:, t] = sample_categorical(self.body(self.embed(found), cond)[:, t], uniform[:, t])
        return found
