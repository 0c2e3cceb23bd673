"""Data for choosing settings: a part of the training examples is kept out, and takes the place of the test part."""

from __future__ import annotations

from typing import Any, cast

from datamodules.base import Batch, Data, Part


class Choosing(Data):
    """Another data set whose `test` gives validation examples; nothing of it leads to the test part.

    The validation part is the set's own where it has one; else a tenth of the training examples by a fixed seed, which are
    then not trained on; of a laboratory it is fresh examples that neither training nor test draws.

    Args:
        of: the data set.

    Raises:
        ValueError: in `setup` and `test`: its training examples cannot be divided.
    """

    part = "validation"

    def __init__(self, of: Data) -> None:
        super().__init__(batch=of.batch, num_workers=of.num_workers)
        self.of, self.shape, self.classes, self.levels = of, of.shape, of.classes, of.levels
        self.paired, self._held = of.paired, cast("Part | None", None)

    def __getattr__(self, name: str) -> Any:
        if name == "of":  # not built yet
            raise AttributeError(name)
        return getattr(self.of, name)

    def setup(self, stage: str) -> None:
        """Set the data up, and divide its training examples; only once."""
        if self.source is not None:
            return
        self.of.setup("fit")
        if self.of.validation(1) is not None:
            self.source, self._held = self.of.source, self.of.validation
        elif hasattr(self.of.source, "divided"):
            self.source, self._held = self.of.source.divided()
        else:
            raise ValueError(
                "These data give no examples to choose by: they are read as a stream. Read them by index (streaming=False)."
            )

    def test(self, n: int | None = None) -> Batch:
        """The first n validation examples; all if None."""
        self.setup("validate")
        assert self._held is not None
        return self._held(n)
