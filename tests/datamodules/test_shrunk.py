"""Images made smaller: the means of squares, in the order of the images that they are made of."""

import pytest
import torch
from torch.nn import functional as F

from datamodules.base import Data, generator, table
from datamodules.labs.density2d import Density2D
from datamodules.labs.shapes import Shapes
from datamodules.readers.digits import Digits
from datamodules.shrunk import Shrunk


class Stream:
    """A source that is neither finite nor endless."""

    def rows(self, seed, step, batch, first, last):
        return {"x": torch.randn(batch, 1, 4, 4, generator=generator(seed, step))[first:last]}


class Few(Data):
    shape = (1, 4, 4)

    def __init__(self, source):
        super().__init__()
        self.source = source

    def setup(self, stage):
        """Nothing to do."""


@pytest.mark.parametrize("of", [Digits(), Shapes(), Few(Stream()), Few(table(x=torch.randn(9, 1, 4, 4)))])
def test_the_batches_are_those_of_the_images(of):
    data = Shrunk(of, 2)
    assert data.shape == (of.shape[0], of.shape[1] // 2, of.shape[2] // 2) and data.classes == of.classes
    data.setup("fit")
    small, large = (d.source.rows(1, 2, 4, 1, 3) for d in (data, of))
    assert torch.equal(small["x"], F.avg_pool2d(large["x"], 2)) and small["x"].shape[1:] == data.shape
    assert set(small) <= {"x", "label"} and ("label" not in large or torch.equal(small["label"], large["label"]))


def test_held_out_and_training_images_are_made_smaller():
    of = Digits()
    data = Shrunk(of, 4)
    assert torch.equal(data.test(3)["x"], F.avg_pool2d(of.test(3)["x"], 4)) and data.part == of.part
    assert torch.equal(data.seen(5)["x"], F.avg_pool2d(of.seen(5)["x"], 4))


@pytest.mark.parametrize(("of", "factor"), [(Digits(), 3), (Digits(), 0), (Density2D(), 2)])
def test_what_cannot_be_cut_is_refused(of, factor):
    with pytest.raises(ValueError, match=f"made smaller by {factor}"):
        Shrunk(of, factor)
