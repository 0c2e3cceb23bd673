"""Critics of state and action, and their slow copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ray_jobs.rl.fast.layers import affines, chain, in_a_row, pulled, relu_backward
from ray_jobs.rl.fast.vmapped import every, stacked


def spread(*shape: int, fan: int) -> nn.Parameter:
    """Numbers even between +-1 / sqrt(fan): as nn.Linear with `fan` inputs draws its weights and its biases."""
    return nn.Parameter(torch.empty(shape).uniform_(-(fan**-0.5), fan**-0.5))


class Ensemble(nn.Module):
    """n ReLU networks of the same sizes, apart in all weights, evaluated in one batched product for each layer.

    Args:
        n: members.
        sizes: of the layers; the first is of an observation and an action side by side, the last of what one member says of them:
            1 for a value, or the atoms or quantiles of a distribution of returns.
    """

    def __init__(self, n: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.n, self.single = n, sizes[-1] == 1
        self.weights = nn.ParameterList(spread(n, a, b, fan=a) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(spread(n, 1, b, fan=a) for a, b in pairwise(sizes))

    def forward(self, obs: Tensor, action: Tensor, *, frozen: bool = False, first: int | None = None) -> Tensor:
        """Q(obs [N, *O], action [N, *A]): [n, N], or [n, N, sizes[-1]].

        Args:
            frozen: gradients reach the inputs alone.
            first: only the first so many members.
        """
        out = self.each(self.inputs(obs, action, first or self.n), frozen=frozen, first=first)
        return out.squeeze(-1) if self.single else out

    def inputs(self, obs: Tensor, action: Tensor, n: int) -> Tensor:
        """What n members see, [n, N, sizes[0]]."""
        return torch.cat([obs.flatten(1), action.flatten(1)], 1).expand(n, -1, -1)

    def pulled(self, slope: Callable[..., Tensor], known: Sequence[Tensor], obs: Tensor, action: Tensor) -> Tensor:
        """`forward`, without autograd; over the parameters' gradients go those of a loss: see `chains.pulled`."""
        layers = [(every(w), every(b)) for w, b in zip(self.weights, self.biases, strict=True)]
        numbers, into = linear(layers), linear([(w.grad, b.grad) for w, b in layers])

        def shaped(out: Tensor, *known: Tensor) -> Tensor:
            return slope(out.squeeze(-1), *known).unsqueeze(-1) if self.single else slope(out, *known)

        out = pulled(shaped, known, self.inputs(obs, action, self.n), numbers, into)
        return out.squeeze(-1) if self.single else out

    def each(self, x: Tensor, *, frozen: bool = False, first: int | None = None) -> Tensor:
        """What every member says of inputs of its own, x [n, N, sizes[0]]: [n, N, sizes[-1]]."""
        numbers: Iterable[tuple[Tensor, Tensor]] = zip(self.weights, self.biases, strict=True)
        if frozen:
            numbers = ((w.detach(), b.detach()) for w, b in numbers)
        if first is not None:
            numbers = ((w[:first], b[:first]) for w, b in numbers)
        if frozen or stacked(x):  # frozen, autograd's own pass takes twice the time
            return chain(x, linear([(every(w), every(b)) for w, b in numbers]), Tensor.relu_, relu_backward)
        *hidden, last = numbers
        for weight, bias in hidden:
            x = affines(x, weight, bias).relu_()
        return affines(x, *last)


def linear(layers: Iterable[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Weights [n, in, out] and biases [n, 1, out], or all seeds' [S, n, ...], as `through` wants them: [n, out, in], [n, out] ..."""
    return [x for weight, bias in layers for x in (in_a_row(weight).mT, in_a_row(bias).squeeze(1))]


@torch.no_grad()
def polyak(target: Iterable[Tensor], online: Iterable[Tensor], tau: float) -> None:
    """Move the target's tensors to the online ones' by the share tau of what is between them, in place.

    Source: Lillicrap et al. 2016, arXiv:1509.02971, algorithm 1.
    """
    torch._foreach_lerp_([every(x) for x in target], [every(x) for x in online], tau)


@torch.no_grad()
def overwrite(target: Iterable[Tensor], online: Iterable[Tensor]) -> None:
    """Copy the online tensors into the target's."""
    torch._foreach_copy_([every(x) for x in target], [every(x) for x in online])
