"""Vectors of a known density, by its name: densities of the plane, rotated into more dimensions, and copulas with known margins."""

from __future__ import annotations

from datamodules.labs.copulas import COPULAS, SIZES, Copulas
from datamodules.labs.density2d import DENSITIES, Density2D


def vectors(name: str, size: int = 2, *, batch: int = 512) -> Density2D | Copulas:
    """Endless vectors [B, size] with `log_prob` and `entropy`.

    Args:
        name: a key of `DENSITIES`, or of `COPULAS`.
        size: D; of a copula, that of one of the tables in `SIZES`.
        batch: global batch.

    Raises:
        ValueError: there is no such density, or not of this size.
    """
    if name not in COPULAS:
        if name not in DENSITIES:
            raise ValueError(f"There is no density '{name}'; allowed: {', '.join([*DENSITIES, *COPULAS])}.")
        return Density2D(batch=batch, name=name, size=size)
    tables = {n: like for like, n in SIZES.items()}
    if size not in tables:
        raise ValueError(f"The copula '{name}' has {', '.join(map(str, tables))} dimensions, not {size}.")
    return Copulas(batch=batch, like=tables[size], copula=name)
