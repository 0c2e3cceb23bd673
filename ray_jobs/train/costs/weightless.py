"""Models without memory: built and run on tensors that have shapes and no values (torch's device 'meta'), to count what training takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from lightning_modules.draws import Draws


@contextmanager
def weightless() -> Iterator[None]:
    """Inside, the weights of new modules have no memory and no values; buffers and other tensors are as ever."""
    register = nn.Module.register_parameter

    def on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.detach().to("meta"), param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


class Formless(Draws):
    """Random numbers without values."""

    def _rows(self, draw: Callable[..., Tensor], shape: tuple[int, ...], device: torch.device | str) -> Tensor:
        self.count += 1
        return draw(shape, None)


class Live(TorchDispatchMode):
    """Counts, inside its context, the bytes of all tensors that operations have made and that still exist, and the most that there were.

    Args:
        known: tensors that do not count, such as weights, of which operations make views.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._see, made)
        return made

    def _see(self, made: Tensor) -> None:
        storage = made.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place not in self._seen:
            self._seen.add(place)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._seen.discard(place)
        self.now -= size
