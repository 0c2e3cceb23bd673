"""The numbers of several seeds' networks and optimisers, stacked: made from those of the seeds alone, and written back to them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ray_jobs.rl.fast.vmapped import every, one, outside


class StackedOptimizer:
    """All seeds' Adam, or another optimiser that treats each number by itself, as one over [S * P] numbers.

    The vector holds each parameter [S, *shape] in a row, as batched products want it.

    Args:
        singles: the seeds' optimisers, made by `algorithm.adam` or `rmsprop`, at the same step.
        parameters: for each seed those that its optimiser steps, in the order of its vector.
    """

    def __init__(self, singles: Sequence[Any], parameters: Sequence[Sequence[nn.Parameter]]) -> None:
        self.sizes = [p.numel() for p in parameters[0]]
        self.seeds, first = len(singles), singles[0]
        (mine,) = first.param_groups[0]["params"]
        self.numbers = [k for k, x in vars(first).items() if isinstance(x, Tensor) and x.shape == mine.shape]
        flat = nn.Parameter(self.joined([o.param_groups[0]["params"][0].detach() for o in singles]))
        flat.grad = torch.zeros_like(flat)
        self.leaves = [
            nn.Parameter(x.view(self.seeds, *p.shape))
            for x, p in zip(self.parts(flat.data), parameters[0], strict=True)
        ]
        self.flat, self.inner = flat, copy.copy(first)
        self.rows = self.parts(flat.grad)
        for leaf, grad in zip(self.leaves, self.rows, strict=True):
            leaf.grad = grad.view_as(leaf)
        self.inner.param_groups = [first.param_groups[0] | {"params": [flat]}]
        for k in self.numbers:
            setattr(self.inner, k, self.joined([getattr(o, k) for o in singles]))

    def __getattr__(self, name: str) -> Any:
        """What an algorithm looks at beside: its groups, how many steps it took."""
        return getattr(self.__dict__["inner"], name)

    def parts(self, flat: Tensor) -> list[Tensor]:
        """Each parameter's [S, n]."""
        return [x.view(self.seeds, -1) for x in flat.split([self.seeds * n for n in self.sizes])]

    def joined(self, vectors: Sequence[Tensor]) -> Tensor:
        """The seeds' vectors [P] as one [S * P]."""
        return torch.cat([x.flatten() for x in torch.stack(list(vectors)).split(self.sizes, 1)])

    def descend(self, loss: Tensor, max_norm: float, back: Callable[[], None]) -> None:
        """`algorithm.descend` for every seed; no seed's loss hangs on another's numbers, so the gradient of their sum is each one's."""
        whole = every(loss)
        with outside():
            self.flat.grad.zero_()
            whole.sum().backward()  # told a gradient for each, torch imports sympy, which takes half a second
            back()
            self.step(max_norm)

    def follow(self, max_norm: float) -> None:
        """`algorithm.follow` for every seed: of the gradient that is there."""
        with outside():
            self.step(max_norm)

    def step(self, max_norm: float) -> None:
        """One step down the gradient, each seed's clipped by its norm."""
        if max_norm < float("inf"):
            self.clip(max_norm)
        self.inner.step()

    def clip(self, max_norm: float) -> None:
        """Shrink each seed's gradient, in place, to the norm that it may have at most."""
        norms = torch.stack([torch.linalg.vector_norm(x, dim=1) for x in self.rows], 1)
        norm = torch.linalg.vector_norm(norms, dim=1)
        # mostly none is shrunk, which is seen here unless one is NaN; to look at a number elsewhere would wait for the device
        if not (norm.device.type == "cpu" and norm.max() <= max_norm):
            factor = (max_norm / (norm + 1e-6)).clamp_(max=1.0)[:, None]
            torch._foreach_mul_(self.rows, [factor] * len(self.rows))

    def write_back(self, singles: Sequence[Any]) -> None:
        """Give the seeds' optimisers, whose vectors hold their networks' weights, what is theirs."""
        for s, single in enumerate(singles):
            theirs = {k: getattr(self.inner, k) for k in self.numbers}
            for k, x in vars(self.inner).items():
                if k not in self.numbers and k != "param_groups":
                    setattr(single, k, x)
            single.param_groups[0] |= {k: v for k, v in self.inner.param_groups[0].items() if k != "params"}
            for mine, x in [(single.param_groups[0]["params"][0], self.flat)] + [
                (getattr(single, k), x) for k, x in theirs.items()
            ]:
                mine.data.copy_(torch.cat([part[s] for part in self.parts(x.detach())]))


class StackedModule:
    """All seeds' numbers of a module in `module`, a copy whose tensors `show` replaces by what each seed sees of its own.

    Parameters and persistent buffers are each seed's own. Buffers without dimensions count what all do at the same time, and others that
    no checkpoint holds are constants: those are the copy's own, the same for all.

    Args:
        singles: the seeds' modules.
        leaves: stacked parameters by the name of the first seed's; others are stacked here, and have no gradient.

    Raises:
        ValueError: a buffer that all have in common differs between seeds.
    """

    def __init__(self, singles: Sequence[nn.Module], leaves: dict[str, nn.Parameter]) -> None:
        self.module = copy.deepcopy(singles[0])
        self.names = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        held = self.module.state_dict(keep_vars=True)
        each = [dict(m.named_parameters()) | dict(m.named_buffers()) for m in singles]
        self.all: dict[str, Tensor] = {}
        for name, x in self.names.items():
            if isinstance(x, nn.Parameter) or (x.dim() and name in held):
                self.all[name] = leaves[name] if name in leaves else torch.stack([e[name].detach() for e in each])
            elif not all(torch.equal(x, e[name]) for e in each):
                raise ValueError(f"the seeds' {name} differ")
        places = {id(x): name for name, x in self.names.items() if name in self.all}
        self.slots = [(holder, k, places[id(x)]) for holder, k, x in slots(self.module) if id(x) in places]

    def show(self) -> None:
        """Let the module's tensors be those that each seed sees; within one `for_all`."""
        seen = {name: one(x) for name, x in self.all.items()}
        for holder, k, name in self.slots:
            holder[k] = seen[name]

    def write_back(self, singles: Sequence[nn.Module]) -> None:
        """Give the seeds' modules what is theirs."""
        for s, single in enumerate(singles):
            theirs = dict(single.named_parameters()) | dict(single.named_buffers())
            for name, x in theirs.items():
                x.data.copy_(self.all[name].detach()[s] if name in self.all else self.names[name])


def slots(module: nn.Module) -> Iterator[tuple[Any, Any, Tensor]]:
    """Every place where a module or a list that belongs to it holds a tensor: what holds it, under which key, and the tensor."""
    for part in module.modules():
        for k, v in vars(part).items():
            yield from _held(k, v)


def _held(name: str, x: Any) -> Iterator[tuple[Any, Any, Tensor]]:
    inside = x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list | tuple) else ()
    for k, y in list(inside):
        if isinstance(y, Tensor) and not isinstance(x, tuple):
            yield x, k, y
        elif isinstance(y, list | tuple | dict):
            yield from _held(name, y)


def parameters_of(optimizer: Any, module: nn.Module) -> list[str]:
    """The names of the parameters that are views of an optimiser's one vector, in its order.

    Raises:
        ValueError: they are not all there is in it.
    """
    (flat,) = optimizer.param_groups[0]["params"]
    storage = flat.untyped_storage().data_ptr()
    inside = [
        (p.storage_offset(), n, p) for n, p in module.named_parameters() if p.untyped_storage().data_ptr() == storage
    ]
    inside.sort(key=lambda x: x[0])
    if sum(p.numel() for _, _, p in inside) != flat.numel():
        raise ValueError("its optimisers have more than one vector")
    return [n for _, n, _ in inside]
