"""K-FAC with a trust region: natural gradients at little more than a gradient's price.

Source: Martens & Grosse 2015, arXiv:1503.05671; convolutions: Grosse & Martens 2016, arXiv:1602.01573, section 3; Wu et al. 2017,
arXiv:1708.05144, sections 2.2 and 3.
Differs: the step is measured by the damped Fisher matrix, which costs one product of vectors; it has no momentum. Parameters outside
linear layers and convolutions have the identity as their block (a Gaussian's log deviations: half their Fisher information).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F

from ray_jobs.rl.fast.flat_weights import flatten
from ray_jobs.rl.maths.curvature import alone, blended, inverses, kronecker_factors, trust_scale
from ray_jobs.rl.optim.flat import FlatOptimizer

Layer = nn.Linear | nn.Conv2d
Call = tuple[Tensor, GradientEdge]
"""A layer's input, and the place of its output in the graph: an activation in place may overwrite the output itself."""


class KFAC(FlatOptimizer):
    """An optimiser whose update is: run the network under `recording`, `observe` its Fisher matrix, `step` down the gradient.

    Networks must call their `nn.Linear` and `nn.Conv2d` layers, as `nets.mlp` and `nets.ConvNet` do. `gradient_step` uses it like Adam:
    all parameters are one vector.

    Args:
        module: whose parameters it moves; each linear layer and each convolution is one block.
        lr: step size at most.
        max_kl: how far a step may move the model's distribution, in nats, to second order.
        damping: added to the Fisher matrix, factored.
        decay: of the running factors, at most.
        every: steps from one inversion of the factors to the next.

    Raises:
        ValueError: the module has neither linear layers nor convolutions, or has convolutions in groups or padded with other than zeros.
    """

    def __init__(
        self,
        module: nn.Module,
        lr: float,
        max_kl: float,
        damping: float = 0.01,
        decay: float = 0.99,
        every: int = 1,
    ) -> None:
        self.layers = [m for m in module.modules() if isinstance(m, Layer)]
        check(module, self.layers)
        parameters = list(module.parameters())
        flat = flatten(parameters)
        super().__init__(flat, lr, {"max_kl": max_kl, "damping": damping, "decay": decay, "every": every})
        self.natural = torch.zeros_like(flat, requires_grad=False)
        parts = self.natural.split([p.numel() for p in parameters])
        self.parts = {p: x.view_as(p) for p, x in zip(parameters, parts, strict=True)}
        self.factors = [x for m in self.layers for x in blank(m)]
        """A, G, A, G ... of the layers in order, and below their damped inverses."""
        self.inverses = [torch.zeros_like(x) for x in self.factors]
        self.steps = self.seen = 0
        self.calls: list[list[Call]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within it, inputs and outputs of the layers are kept for the next `observe`; those of an earlier recording are dropped."""
        self.calls = [[] for _ in self.layers]
        hooks = [m.register_forward_hook(keeper(calls)) for m, calls in zip(self.layers, self.calls, strict=True)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def observe(self, logp: Tensor, mean: Callable[[Tensor], Tensor] = alone) -> None:
        """Take the Fisher factors of what was recorded into the running ones; the graph stays, for the loss.

        `logp` [*] are log-probabilities of outcomes drawn from the model itself, of one each for every row that the layers saw: actions
        of the policy; for a value, log N(v + noise; v, 1). A network with both adds the two.

        Raises:
            ValueError: nothing was recorded on which `logp` depends, or a part of the layers was not.
        """
        new = [x for pair in self.estimates(logp) for x in pair]
        averaged = mean(torch.cat([x.reshape(-1) for x in new])).split([x.numel() for x in new])
        self.seen += 1
        blended(
            self.factors,
            [x.view_as(y) for x, y in zip(averaged, new, strict=True)],
            self.seen,
            self.param_groups[0]["decay"],
        )

    def estimates(self, logp: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """A and G of each layer from what was recorded, which is forgotten."""
        calls, self.calls = self.calls, []
        if not calls or not all(calls):
            raise ValueError("Every layer must have been called within `recording` before `observe`.")
        outputs = [y for layer in calls for _, y in layer]
        slopes = iter(torch.autograd.grad(logp.sum(), outputs, retain_graph=True, allow_unused=True))
        for layer, seen in zip(self.layers, calls, strict=True):
            used = [rows(layer, x, g) for (x, _), g in zip(seen, slopes, strict=False) if g is not None]
            if not used:
                raise ValueError("`logp` must depend on every layer of the module.")
            yield factors(layer, *map(torch.cat, zip(*used, strict=True)))

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters down their natural gradient, as far as the trust region and `lr` allow.

        Raises:
            ValueError: nothing was observed yet.
        """
        if not self.seen:
            raise ValueError("K-FAC must `observe` the Fisher matrix before its first step.")
        group = self.param_groups[0]
        (flat,) = group["params"]
        if self.steps % group["every"] == 0:
            self.invert(group["damping"])
        self.steps += 1
        self.natural.copy_(flat.grad)
        for layer, A, G in zip(self.layers, self.inverses[::2], self.inverses[1::2], strict=True):
            self.turn(layer, A, G)
        flat.addcmul_(self.natural, trust_scale(self.natural.dot(flat.grad), group["lr"], group["max_kl"]), value=-1)

    def invert(self, damping: float) -> None:
        """Bring the inverses up to date, in place: products round by the layout of what is multiplied, and a resumed one has this."""
        pairs = zip(self.factors[::2], self.factors[1::2], strict=True)
        torch._foreach_copy_(self.inverses, [x for A, G in pairs for x in inverses(A, G, damping)])

    def turn(self, layer: Layer, A: Tensor, G: Tensor) -> None:
        """Put a layer's natural gradient where its parameters have their place."""
        grad, place = layer.weight.grad.flatten(1), self.parts[layer.weight].flatten(1)
        if layer.bias is None:
            place.copy_(G @ grad @ A)
            return
        turned = G @ torch.cat([grad, layer.bias.grad[:, None]], 1) @ A
        place.copy_(turned[:, :-1])
        self.parts[layer.bias].copy_(turned[:, -1])

    def state_dict(self) -> dict[str, Any]:
        """Plain types and tensors; recordings are dropped between updates."""
        state = {"step": self.steps, "seen": self.seen, "factors": self.factors, "inverses": self.inverses}
        return {"state": {0: state}, "param_groups": self.groups()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        found = state["state"][0]
        self.steps, self.seen = found["step"], found["seen"]
        for mine, kept in zip(self.factors + self.inverses, found["factors"] + found["inverses"], strict=True):
            mine.copy_(kept)
        self.load_groups(state["param_groups"])


def check(module: nn.Module, layers: Sequence[Layer]) -> None:
    """Refuse a module with a layer that these factors do not cover.

    Raises:
        ValueError: as `KFAC`.
    """
    if not layers:
        raise ValueError(f"K-FAC needs linear layers or convolutions, and {type(module).__name__} has none.")
    for m in layers:
        if isinstance(m, nn.Conv2d) and (m.groups > 1 or isinstance(m.padding, str) or m.padding_mode != "zeros"):
            raise ValueError(f"K-FAC's convolutions have one group and so many zeros as padding, and this is {m}.")


def blank(layer: Layer) -> tuple[Tensor, Tensor]:
    """Factors of 0, before the first observation."""
    outputs, inputs = len(layer.weight), layer.weight[0].numel() + (layer.bias is not None)
    return layer.weight.new_zeros(inputs, inputs), layer.weight.new_zeros(outputs, outputs)


def keeper(calls: list[Call]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """A forward hook that appends a layer's input and its output's place in the graph."""

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((inputs[0].detach(), get_gradient_edge(output)))

    return keep


def rows(layer: Layer, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's inputs [N, P, in] and slopes [N, P, out] at its P positions: of a linear layer there is one.

    A convolution is a linear layer over patches of its input, whose elements are in the order of its kernels'.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, 1, x.shape[-1]), slope.reshape(-1, 1, slope.shape[-1])
    patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return patches.transpose(1, 2), slope.flatten(2).transpose(1, 2)


def factors(layer: Layer, inputs: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """A and G of inputs [N, P, in] and slopes [N, P, out], so that the layer's Fisher block is about G (x) A.

    A is summed over positions, for the weights' slope is, and G is their mean: slopes at two positions are taken for uncorrelated, and
    positions for alike.

    Source: Grosse & Martens 2016, arXiv:1602.01573, section 3.1.
    """
    A, G = kronecker_factors(inputs.flatten(0, 1), slopes.flatten(0, 1), bias=layer.bias is not None)
    return inputs.shape[1] * A, G
