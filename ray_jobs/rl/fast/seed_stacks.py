"""Networks and optimisers of several seeds as one: made from those of single seeds, and written back to them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ray_jobs.rl.fast.recorded import backward
from ray_jobs.rl.fast.vmapped import unwrap, without_vmap, wrap


class StackedOptimizer:
    """One optimiser of S * P parameters for Adam, or another method that treats each parameter by itself, of S seeds.

    Its vector holds the parameters one after the other, each [S, *shape], so that batched products can use them. Its methods are those
    of `contract.Optimizer`, called once for all seeds.

    Args:
        singles: the seeds' optimisers, all at the same step.
        parameters: for each seed those that its optimiser steps, in the order of its vector.
    """

    def __init__(self, singles: Sequence[Any], parameters: Sequence[Sequence[nn.Parameter]]) -> None:
        self.sizes = [p.numel() for p in parameters[0]]
        self.seeds, first = len(singles), singles[0]
        (mine,) = first.param_groups[0]["params"]
        self.moments = [k for k, x in vars(first).items() if isinstance(x, Tensor) and x.shape == mine.shape]
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
        for k in self.moments:
            setattr(self.inner, k, self.joined([getattr(o, k) for o in singles]))

    def __getattr__(self, name: str) -> Any:
        """Whatever else an algorithm reads: the groups, the number of steps."""
        return getattr(self.__dict__["inner"], name)

    @property
    def lr(self) -> float:
        """Step size, the same for all seeds."""
        return self.inner.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.inner.lr = value

    def parts(self, flat: Tensor) -> list[Tensor]:
        """Each parameter of all seeds [S, n], as views of a vector [S * P]."""
        return [x.view(self.seeds, -1) for x in flat.split([self.seeds * n for n in self.sizes])]

    def joined(self, vectors: Sequence[Tensor]) -> Tensor:
        """The seeds' vectors [P] as one [S * P]."""
        return torch.cat([x.flatten() for x in torch.stack(list(vectors)).split(self.sizes, 1)])

    def differentiate(self, loss: Tensor) -> None:
        """Write the gradient of each seed's scalar loss.

        It is the gradient of their sum, because no seed's loss depends on another seed's parameters. With one gradient for each loss,
        torch would import sympy, which takes half a second.
        """
        whole = unwrap(loss)
        with without_vmap():
            self.flat.grad.zero_()
            backward(whole.sum())

    def clip(self, max_norm: float) -> None:
        """Shrink each seed's gradient to the norm `max_norm`, if its own is larger."""
        with without_vmap():
            norms = torch.stack([torch.linalg.vector_norm(x, dim=1) for x in self.rows], 1)
            factor = (max_norm / (torch.linalg.vector_norm(norms, dim=1) + 1e-6)).clamp_(max=1.0)[:, None]
            torch._foreach_mul_(self.rows, [factor] * len(self.rows))

    def step(self) -> None:
        """Move all seeds' parameters by one step down their gradients."""
        with without_vmap():
            self.inner.step()

    def write_back(self, singles: Sequence[Any]) -> None:
        """Copy to each seed's optimiser, whose vector holds its network's weights, what belongs to that seed."""
        for s, single in enumerate(singles):
            stacked = {k: getattr(self.inner, k) for k in self.moments}
            for k, x in vars(self.inner).items():
                if k not in self.moments and k != "param_groups":
                    setattr(single, k, x)
            single.param_groups[0] |= {k: v for k, v in self.inner.param_groups[0].items() if k != "params"}
            for mine, x in [(single.param_groups[0]["params"][0], self.flat)] + [
                (getattr(single, k), x) for k, x in stacked.items()
            ]:
                mine.data.copy_(torch.cat([part[s] for part in self.parts(x.detach())]))


class StackedModule:
    """The tensors of a module of S seeds, and a copy `module` of it whose tensors `show` replaces by views without the seeds' dimension.

    Parameters and persistent buffers differ between seeds. Other buffers are the copy's, the same for all seeds: those without dimensions
    count what all seeds do at the same time, and those that no checkpoint holds are constants.

    Args:
        singles: the seeds' modules.
        leaves: stacked parameters by name; other parameters are stacked here, and have no gradient.

    Raises:
        ValueError: a buffer that all seeds share differs between them.
    """

    def __init__(self, singles: Sequence[nn.Module], leaves: dict[str, nn.Parameter]) -> None:
        self.module = copy.deepcopy(singles[0])
        self.names = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        persistent = self.module.state_dict(keep_vars=True)
        each = [dict(m.named_parameters()) | dict(m.named_buffers()) for m in singles]
        self.all: dict[str, Tensor] = {}
        for name, x in self.names.items():
            if isinstance(x, nn.Parameter) or (x.dim() and name in persistent):
                self.all[name] = leaves[name] if name in leaves else torch.stack([e[name].detach() for e in each])
            elif not all(torch.equal(x, e[name]) for e in each):
                raise ValueError(f"the seeds' {name} differ")
        names = {id(x): name for name, x in self.names.items() if name in self.all}
        self.slots = [(holder, k, names[id(x)]) for holder, k, x in slots(self.module) if id(x) in names]

    def show(self) -> None:
        """Put each seed's tensors, with the seeds' dimension hidden, into the module; within one `vmap_seeds`."""
        hidden = {name: wrap(x) for name, x in self.all.items()}
        for holder, k, name in self.slots:
            holder[k] = hidden[name]

    def write_back(self, singles: Sequence[nn.Module]) -> None:
        """Copy to each seed's module what belongs to that seed."""
        for s, single in enumerate(singles):
            mine = dict(single.named_parameters()) | dict(single.named_buffers())
            for name, x in mine.items():
                x.data.copy_(self.all[name].detach()[s] if name in self.all else self.names[name])


def slots(module: nn.Module) -> Iterator[tuple[Any, Any, Tensor]]:
    """Every tensor that a module, or a list or dict that belongs to it, holds: (holder, key, tensor)."""
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
    """The names of the parameters that are views of an optimiser's vector, in its order.

    Raises:
        ValueError: the vector holds more than those.
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
