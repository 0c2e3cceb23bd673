"""Masked autoregressive bijections.

Source: Papamakarios et al. 2017, arXiv:1705.07057, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.flows.bijection import Bijection, Mapped
from lightning_modules.flows.coupling import ScaleAndShift, affine
from lightning_modules.nets.masked import MaskedMLP


class Autoregressive(Bijection):
    """z_i = x_i exp(s_i) + t_i, where s_i and t_i depend on the x before x_i: one pass forwards, one input after the other back.

    Args:
        net: x [B, D] -> the outputs that `scale_and_shift` reads.
        scale_and_shift: as in `Coupling`.

    Source: MAF, eq. 3 to 5; inverted by `Inverse` it is IAF: Kingma et al. 2016, arXiv:1606.04934, eq. 10.
    Differs: z = x exp(s) + t where the paper has (x - mu) exp(-alpha).
    """

    def __init__(self, net: MaskedMLP, scale_and_shift: ScaleAndShift = affine) -> None:
        super().__init__()
        self.net, self.scale_and_shift = net, scale_and_shift

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        log_scale, shift = self.scale_and_shift(self.net(x, cond))
        return Mapped(x * log_scale.exp() + shift, log_scale.sum(1))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        """One input after the other. Where gradients are needed: D whole passes, each of which makes one more input right."""
        if torch.is_grad_enabled():
            x = z
            for _ in range(self.net.size):
                log_scale, shift = self.scale_and_shift(self.net(x, cond))
                x = (z - shift) * (-log_scale).exp()
            return Mapped(x, -log_scale.sum(1))
        logdet = z.new_zeros(len(z))

        def univariate(i: int, outputs: Tensor) -> Tensor:
            log_scale, shift = self.scale_and_shift(outputs)
            logdet.sub_(log_scale[:, 0])
            return (z[:, i] - shift[:, 0]) * (-log_scale[:, 0]).exp()

        return Mapped(self.net.unroll(univariate, z, cond), logdet)
