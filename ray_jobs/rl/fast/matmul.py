"""How a learner computes: what its matrix products are rounded to, which library takes them, and what counts as nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Matmul

MANY = 2**15
"""Numbers in the largest weight, of all seeds that train together, from which on oneDNN's products can pay for its 12 us to begin one."""
LARGE, BATCHED = 2**20, 16
"""Multiplications in one product, or products in a batch, from which on they do."""

_by_size = False
"""Whether products are oneDNN's, and MKL's where they are small."""


@contextmanager
def arithmetic(matmul: Matmul, largest: int = 0) -> Iterator[None]:
    """How a learner computes; what else runs in its process, such as environments, computes as elsewhere.

    Numbers too small for a full mantissa count as 0: Adam's moments of units that are dead decay to them, and each is a hundred times
    as slow.

    Args:
        largest: numbers in the largest weight, of all seeds that train together; 0 on another device than the CPU.
    """
    global _by_size
    before, _by_size = None, matmul == "float32" and largest >= MANY and onednn_is_quicker()
    if matmul == "bfloat16" or _by_size:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        _by_size = False
        if before:
            torch.set_float32_matmul_precision(before)


def slow_to_begin() -> bool:
    """Whether large products are oneDNN's now: few of them then take less time than many whose numbers stay in a core's cache."""
    return _by_size


def quickest(product: Callable[..., Tensor], *operands: Tensor, **options: Tensor) -> Tensor:
    """product(*operands), whose last two are [m, k] and [k, n] or batches of those, by the library that is quicker for their sizes.

    What autograd differentiates is oneDNN's wherever `arithmetic` begins so.
    """
    if not _by_size:
        return product(*operands, **options)
    a, b = operands[-2:]
    if (a.dim() == 3 and a.shape[0] >= BATCHED) or a.numel() * b.shape[-1] >= LARGE:
        return product(*operands, **options)
    torch.set_float32_matmul_precision("highest")
    try:
        return product(*operands, **options)
    finally:
        torch.set_float32_matmul_precision("medium")


@cache
def has_bfloat16() -> bool:
    """Whether products are rounded to bfloat16 here where they may be, found by one.

    torch's own answer counts CPUs whose units (AVX-512's, without AMX) it then leaves unused.
    """
    with arithmetic("bfloat16"):
        return bool((torch.full((32, 32), 1 + 2**-9) @ torch.eye(32) == 1).all())


@cache
def onednn_is_quicker() -> bool:
    """Whether oneDNN's products of float32 are to be had and quicker than those of MKL, which gives AVX-512 to Intel's processors alone.

    On a Zen 5 large ones take half of MKL's time; AMD's others were not measured. torch leaves products to oneDNN only where they may be
    rounded to bfloat16, which oneDNN does by AMX alone: without that, they are float32's.
    """
    processors = Path("/proc/cpuinfo")
    others = processors.exists() and "AuthenticAMD" in processors.read_text()
    return others and torch.backends.mkl.is_available() and not has_bfloat16()


def check_matmul(matmul: Matmul, device: torch.device) -> None:
    """Refuse bfloat16 where torch would not take it.

    Raises:
        UsageError: the device is no CPU, or one whose products torch does not take in bfloat16.
    """
    if matmul == "bfloat16" and not (device.type == "cpu" and has_bfloat16()):
        raise UsageError(
            "matmul bfloat16 is for CPUs with units for it that torch uses (AMX, by oneDNN): here take float32."
        )
