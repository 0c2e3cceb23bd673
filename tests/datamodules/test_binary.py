"""Grey images are drawn black and white with their grey as the probability: the same on all workers, and new at each step."""

import math

import torch

from datamodules.base import Share, table
from datamodules.binary import Binary, Sampled
from datamodules.readers.digits import Digits


def test_pixels_are_white_as_often_as_they_are_bright():
    """Each grey's share within 4.5 standard errors."""
    grey = torch.tensor([-1.0, -0.5, 0.0, 0.9, 1.0]).reshape(1, 1, 1, 5).expand(1000, 1, 12, 5).contiguous()
    x = Sampled(table(x=grey)).rows(3, 5, 1000, 0, 1000)["x"]
    assert x.shape == grey.shape and set(x.unique().tolist()) == {-1.0, 1.0}
    share, p = (x > 0).float().mean((0, 1, 2)), (grey[0, 0, 0] + 1) / 2
    assert ((share - p).abs() <= 4.5 * (p * (1 - p) / 12000).sqrt()).all()


def test_two_workers_toss_what_one_does_and_each_step_again():
    data = Binary(Digits(batch=20), by_chance=True)
    data.setup("fit")
    whole, other = (Share(data.source, 1, 20, 1, 0, 1)[step]["x"] for step in (4, 4 + 1500 // 20))
    halves = [Share(data.source, 1, 20, 1, rank, 2)[4] for rank in (0, 1)]
    assert torch.equal(torch.cat([half["x"] for half in halves]), whole)
    assert halves[0]["label"].shape == (10,) and data.shape == (1, 8, 8) and data.classes == 10
    assert not torch.equal(whole, other)


def test_held_out_ones_are_always_the_same():
    a, b = Binary(Digits(), by_chance=True).test(30), Binary(Digits(), by_chance=True).test(30)
    assert torch.equal(a["x"], b["x"]) and a["x"].shape == (30, 1, 8, 8)
    grey = Digits().test(30)["x"]
    assert torch.equal(a["x"][grey.abs() == 1], grey[grey.abs() == 1]) and math.isclose(a["x"].abs().min(), 1)
