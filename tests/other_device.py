"""A stand-in for a GPU on a machine without one: its tensors have values, and may not meet those of the CPU.

Tensors stay in the CPU's memory; those of the stand-in are known by their storage. `tensor.device` then answers `DEVICE`, moves
copy, and what a GPU refuses is refused: operations on tensors of both devices, and draws by a generator of the other device. Two
modes work together: one sees the calls from Python (devices and generators), the other every operation of ATen, those of
automatic differentiation too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU, DEVICE = torch.device("cpu"), torch.device("cuda", 0)

Generator = torch.Generator
aten = torch.ops.aten
CROSSES = {aten.copy_.default, aten._to_copy.default}
"""Operations that move values from one device to another."""
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operations whose indices may be on the CPU."""


class Mixed(RuntimeError):
    """What a GPU refuses."""


class Placed(Generator):
    """A generator that remembers the device that it was made for; it draws on the CPU."""

    def __new__(cls, device: Any = "cpu") -> Placed:
        made = super().__new__(cls)
        made.place = torch.device(device)  # type: ignore[attr-defined]
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place  # type: ignore[attr-defined]

    def manual_seed(self, seed: int) -> Placed:
        super().manual_seed(seed)
        return self


class Places:
    """Which storages are on the stand-in. A weak reference keeps a storage's address from being used again."""

    def __init__(self) -> None:
        self.there: dict[int, StorageWeakRef] = {}
        self.calling = False  # inside a call on tensors of the stand-in: what it makes for itself is there, too

    def of(self, x: Tensor) -> torch.device:
        if x.device.type != "cpu":
            return x.device
        return DEVICE if x.untyped_storage()._cdata in self.there else CPU

    def put(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        self.there.setdefault(storage._cdata, StorageWeakRef(storage))
        return x


def tensors(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, tuple | list):
        return []
    return [x for part in tree if part is not None for x in tensors(part)]


def same(a: torch.device, b: torch.device) -> bool:
    return a.type == b.type


class Operations(TorchDispatchMode):
    """Refuses operations on tensors of both devices; results are where the arguments are."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors((args, kwargs))
        there = [x for x in given if same(self.places.of(x), DEVICE)]
        if func in CROSSES:
            out = func(*args, **kwargs)
            if func is aten._to_copy.default and there:
                self.places.put(out)
            return out
        held = given[:1] + given[2:] if func in INDEXED and there else given
        self._check(func, args, held, there)
        out = func(*args, **kwargs)
        if there or (self.places.calling and not given):
            for x in tensors(out):
                self.places.put(x)
        return out

    def _check(self, func: Any, args: Any, given: list[Tensor], there: list[Tensor]) -> None:
        here = [x for x in given if same(self.places.of(x), CPU) and x.dim() > 0]
        if func in INDEXED and there and given:  # indices of the stand-in for a tensor of the CPU
            here = [x for x in given[:1] if same(self.places.of(x), CPU)]
        if there and here:
            raise Mixed(f"{func}: tensors on {DEVICE} and on the CPU, of shapes {[tuple(x.shape) for x in given]}")
        if there and func._schema.is_mutable:
            first = next(iter(tensors(args)), None)
            if first is not None and same(self.places.of(first), CPU):
                raise Mixed(f"{func} would write a result of {DEVICE} into a tensor on the CPU")


class Calls(TorchFunctionMode):
    """Answers what device a tensor is on, moves tensors, and makes tensors there."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return self.places.of(args[0])
        if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return same(self.places.of(args[0]), DEVICE)
        if func in (Tensor.numpy, Tensor.__array__) and same(self.places.of(args[0]), DEVICE):
            raise Mixed(f"A tensor on {DEVICE} is no array of NumPy's: move it to the CPU first.")
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._move(func, args, kwargs)
        if kwargs.get("device") is not None:
            return self._make(func, args, kwargs)
        rng = next((x for x in (*args, *kwargs.values()) if isinstance(x, Generator)), None)
        into = next((self.places.of(x) for x in args if isinstance(x, Tensor)), CPU)
        if rng is not None and not same(rng.device, into):
            raise Mixed(f"{func.__name__}: a generator of {rng.device} cannot draw a tensor on {into}")
        given = tensors((args, kwargs))
        was, self.places.calling = self.places.calling, any(same(self.places.of(x), DEVICE) for x in given)
        try:
            return func(*args, **kwargs)
        finally:
            self.places.calling = was

    def _move(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        x, *rest = args
        was = self.places.of(x)
        if func is not Tensor.to:
            return self._moved(x, CPU if func is Tensor.cpu else DEVICE)
        target = kwargs.pop("device", None)
        if rest and isinstance(rest[0], Tensor):
            other, *rest = rest
            target, rest = self.places.of(other), [other.dtype, *rest]
        elif rest and isinstance(rest[0], str | torch.device | int):
            target, *rest = rest
        kwargs.pop("non_blocking", None)
        kept = [r for r in rest if isinstance(r, torch.dtype)]
        moved = self._moved(x, torch.device(target) if target is not None else was)
        return moved.to(*kept, **kwargs) if kept or kwargs else moved

    def _moved(self, x: Tensor, target: torch.device) -> Tensor:
        if target.type == "meta" or same(self.places.of(x), target):
            return Tensor.to(x, target) if target.type == "meta" else x
        if same(target, DEVICE):
            return Sent.apply(x, self.places)
        return Fetched.apply(x, self.places)

    def _make(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        target, rng = torch.device(kwargs["device"]), kwargs.get("generator")
        if target.type == "meta":
            return func(*args, **kwargs)
        if rng is not None and not same(rng.device, target):
            raise Mixed(f"{func.__name__}: a generator of {rng.device} cannot draw a tensor on {target}")
        if any(isinstance(x, Tensor) for x in args) and func in (torch.as_tensor, torch.asarray):
            return self._moved(args[0], target)
        out = func(*args, **{**kwargs, "device": CPU})
        return self.places.put(out) if same(target, DEVICE) else out


class Sent(torch.autograd.Function):
    """A copy on the stand-in; its gradient comes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Places) -> Tensor:
        ctx.places = places
        return places.put(copied(x))

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return copied(slope), None


class Fetched(torch.autograd.Function):
    """A copy on the CPU; its gradient goes there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Places) -> Tensor:
        ctx.places = places
        return copied(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return ctx.places.put(copied(slope)), None


def copied(x: Tensor) -> Tensor:
    """A copy that belongs to the CPU, whatever x does: `_to_copy` and `clone` would follow x."""
    with torch.no_grad():
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).copy_(x)


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Inside, `DEVICE` can be used as a GPU is."""
    places = Places()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", Placed)
        patch.setattr(torch.cuda, "default_generators", (Placed(DEVICE),))
        with Operations(places), Calls(places):
            yield DEVICE
