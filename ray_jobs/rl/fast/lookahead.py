"""Networks whose weights rest for several updates: they evaluate the batches of those updates in one call.

A batch that was drawn together with others remembers them, as an attribute of its tensor; what is computed from the tensor does not.

Gain: a training of DQN (256 units, one CartPole, batches of 64) takes 5 to 10% less CPU time, on a busy machine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Draw:
    """Batches that were drawn together."""

    def __init__(self, whole: Tensor) -> None:
        self.whole = whole
        """All of them, one after the other."""
        self.outputs: dict[tuple[int, int], Tensor] = {}
        """Outputs that wait for their update, by network and first row."""


def split_draw(x: Tensor, size: int) -> list[Tensor]:
    """x [k * size, ...] as k batches, each of which remembers its draw."""
    draw, batches = Draw(x), list(x.split(size))
    for i, batch in enumerate(batches):
        batch.draw = draw, i * size  # type: ignore[attr-defined]
    return batches


@torch.no_grad()
def evaluate(net: nn.Module, x: Tensor, rests: int) -> Tensor:
    """net(x) without gradients; the batches that were drawn after x are evaluated in the same call.

    Args:
        rests: so many updates, this one included, see the network's weights as they are now, in the order of their batches.
    """
    draw, first = getattr(x, "draw", (None, 0))
    if draw is None:
        return net(x)
    if (id(net), first) not in draw.outputs:
        rows = draw.whole[first : first + rests * len(x)]
        for i, out in enumerate(net(rows).split(len(x))):
            draw.outputs[id(net), first + i * len(x)] = out
    return draw.outputs.pop((id(net), first))
