"""Recipes of PixelRNN, with Row LSTM or Diagonal BiLSTM layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipes.autoregressive.images import cifar10, digits, known

if TYPE_CHECKING:
    from lightning_modules.autoregressive.diagonal_bilstm import DiagonalBiLSTM
    from lightning_modules.autoregressive.row_lstm import RowLSTM


def row_lstm(shape: tuple[int, ...], *, depth: int, width: int, head: int, levels: int) -> RowLSTM:
    """The untrained model; arguments as those of `RowLSTM`."""
    from lightning_modules.autoregressive.row_lstm import RowLSTM

    return RowLSTM(shape, depth=depth, width=width, head=head, levels=levels)


def diagonal_bilstm(shape: tuple[int, ...], *, depth: int, width: int, head: int, levels: int) -> DiagonalBiLSTM:
    """The untrained model; arguments as those of `DiagonalBiLSTM`."""
    from lightning_modules.autoregressive.diagonal_bilstm import DiagonalBiLSTM

    return DiagonalBiLSTM(shape, depth=depth, width=width, head=head, levels=levels)


row_lstm_known = known(row_lstm, "Row LSTM", steps=250, layers=2, spins=0.003, greys=0.008, prototypes=0.07)
row_lstm_digits = digits(row_lstm, "Row LSTM", steps=600, layers=2)
diagonal_bilstm_known = known(
    diagonal_bilstm, "Diagonal BiLSTM", steps=200, layers=2, spins=0.004, greys=0.01, prototypes=0.06
)
diagonal_bilstm_digits = digits(diagonal_bilstm, "Diagonal BiLSTM", steps=400, layers=2)
pixelrnn_cifar10 = cifar10(diagonal_bilstm, "Diagonal BiLSTM", value=3.00, layers=12)
