"""The data of a model that has none here: it can be sampled, and neither trained nor measured."""

from __future__ import annotations

from datamodules.base import Batch, Data


class Absent(Data):
    """No data.

    Args:
        shape: of the examples that the model draws.
        classes: number of its labels, 0 for none.
    """

    def __init__(self, shape: tuple[int, ...], classes: int = 0) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes

    def setup(self, stage: str) -> None:
        raise ValueError("There are no data to train on or to measure with: give --data.")

    def test(self, n: int | None = None) -> Batch:
        raise ValueError("There are no data to measure with: give --data.")
