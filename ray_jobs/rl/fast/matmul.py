"""How a learner multiplies matrices: the precision of products, the library that computes them, and denormal numbers.

Gain: on a Zen 5 of AMD, oneDNN makes the updates of TD3 and SAC of 256 units half as quick again, and 64 seeds together up to 1.7 times as
quick. On a Zen 4, 32 seeds of TD3 together take a tenth less time, and DQN of 256 units took a tenth longer, until its products were left
to MKL (`onednn_from`). Denormal numbers are a hundred times as slow as others; Adam's moments of dead units decay to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ray_jobs.errors import UsageError

Matmul = Literal["float32", "bfloat16"]
"""What matrix products are computed in."""

MANY = 2**15
"""Elements of the largest weight, of all seeds that train together, from which on oneDNN can be quicker; it starts a product in 12 us."""
BATCHED = 16
"""Products in a batch from which on oneDNN is quicker, however small they are."""

_large = 0
"""Multiplications in one product from which on it is oneDNN's now, and smaller ones are MKL's; 0 where none is oneDNN's."""
ZEN_5 = 26
"""The family of AMD's processors whose units for AVX-512 are 512 bits wide."""


@contextmanager
def arithmetic(matmul: Matmul, largest: int = 0) -> Iterator[None]:
    """Within it a learner computes; environments in the same process compute outside it.

    Denormal numbers count as 0.

    Args:
        matmul: what products are computed in.
        largest: elements of the largest weight, of all seeds that train together; 0 on another device than the CPU.
    """
    global _large
    before, by_size = None, matmul == "float32" and largest >= MANY and onednn_is_quicker()
    _large = onednn_from() if by_size else 0
    if matmul == "bfloat16" or by_size:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        _large = 0
        if before:
            torch.set_float32_matmul_precision(before)


def onednn_is_on() -> bool:
    """Whether large products are oneDNN's now."""
    return _large > 0


def product(multiply: Callable[..., Tensor], *operands: Tensor, **options: Tensor) -> Tensor:
    """multiply(*operands), by the library that is quicker for their sizes.

    The last two operands are [m, k] and [k, n], or batches of them. Products that autograd differentiates by itself are oneDNN's wherever
    `arithmetic` starts so.
    """
    if not _large:
        return multiply(*operands, **options)
    a, b = operands[-2:]
    if (a.dim() == 3 and a.shape[0] >= BATCHED) or a.numel() * b.shape[-1] >= _large:
        return multiply(*operands, **options)
    torch.set_float32_matmul_precision("highest")
    try:
        return multiply(*operands, **options)
    finally:
        torch.set_float32_matmul_precision("medium")


@cache
def has_bfloat16() -> bool:
    """Whether products are rounded to bfloat16 here where that is allowed, found by a trial.

    torch's own answer includes CPUs whose units (AVX-512's, without AMX) it then leaves unused.
    """
    with arithmetic("bfloat16"):
        return bool((torch.full((32, 32), 1 + 2**-9) @ torch.eye(32) == 1).all())


def amd_family() -> int:
    """The family of AMD's processor here: 25 for Zen 3 and Zen 4, 26 for Zen 5; 0 for others."""
    described = Path("/proc/cpuinfo")
    text = described.read_text() if described.exists() else ""
    found = re.search(r"^cpu family\s*: (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found and "AuthenticAMD" in text else 0


@cache
def onednn_is_quicker() -> bool:
    """Whether oneDNN's products of float32 are available and quicker than those of MKL, which uses AVX-512 on Intel's processors only.

    torch leaves products to oneDNN only where they may be rounded to bfloat16. oneDNN rounds by AMX only: on a processor without AMX,
    products are float32's.
    """
    return amd_family() > 0 and torch.backends.mkl.is_available() and not has_bfloat16()


@cache
def onednn_from() -> int:
    """Multiplications in one product from which on oneDNN is quicker, where it is at all.

    On a Zen 5, large products take half of MKL's time. A Zen 4 computes AVX-512 in two halves: products of 2^22 take a tenth longer than
    MKL's, of 2^23 as long, of 2^28 a fifth less.
    """
    return 2**20 if amd_family() >= ZEN_5 else 2**23


def check_matmul(matmul: Matmul, device: torch.device) -> None:
    """Refuse bfloat16 where torch would not use it.

    Raises:
        UsageError: the device is not a CPU, or torch does not multiply in bfloat16 on this CPU.
    """
    if matmul == "bfloat16" and not (device.type == "cpu" and has_bfloat16()):
        raise UsageError(
            "matmul bfloat16 is for CPUs with units for it that torch uses (AMX, by oneDNN): here take float32."
        )
