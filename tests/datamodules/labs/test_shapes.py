"""Shapes: the reader gives back what was drawn, the probabilities are those of the drawing, and all parts agree."""

import math

import pytest
import torch

from datamodules.labs.shapes import COLOURS, GROUNDS, KINDS, SIZES, WORDS, Attributes, Shapes, paint, read, words

SIDES = (32, 64)


@pytest.mark.parametrize(("side", "n"), [(32, 1500), (64, 300)])
def test_every_attribute_is_read_back_from_the_pixels(side, n):
    batch = Shapes(side=side).draw(n, torch.Generator().manual_seed(0))
    seen = read(batch["x"])
    assert torch.equal(torch.stack(seen.attributes, 1), batch["attributes"])
    assert (seen.overlap == 1).all()
    for column, values in zip(batch["attributes"].T, (KINDS, COLOURS, GROUNDS, SIZES), strict=False):
        assert len(column.unique()) == len(values)


def test_shapes_at_every_edge_are_read_back():
    some = [
        (k, 0, 2, s, r, c)
        for k in range(len(KINDS))
        for s, radius in enumerate((5, 9))
        for r in (radius, 31 - radius)
        for c in (radius, 31 - radius)
    ]
    of = Attributes(*torch.tensor(some).T)
    assert all(torch.equal(a, b) for a, b in zip(read(paint(of, 32)).attributes, of, strict=True))


def test_reading_withstands_noise():
    """With noise of a tenth of the range all attributes but the place to the pixel survive."""
    batch = Shapes().test(200)
    noisy = batch["x"] + 0.2 * torch.randn(batch["x"].shape, generator=torch.Generator().manual_seed(0))
    seen = read(noisy)
    got = torch.stack(seen.attributes, 1)
    assert torch.equal(got[:, :4], batch["attributes"][:, :4])
    assert (got[:, 4:] - batch["attributes"][:, 4:]).abs().max() <= 1
    assert seen.overlap.min() > 0.8


def test_what_is_no_shape_fits_badly():
    x = 2 * torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    assert read(x).overlap.max() < 0.5
    assert Shapes().log_prob(x).tolist() == [-math.inf] * 50
    assert read(torch.ones(2, 3, 32, 32)).overlap.tolist() == [0, 0]


def test_probabilities_sum_to_one():
    """Over all pictures: those of one colour and ground, painted one by one, times the number of these."""
    data, total = Shapes(), 0.0
    for size, radius in enumerate((5, 9)):
        line = torch.arange(radius, 32 - radius)
        row, column = torch.cartesian_prod(line, line).T
        for kind in range(len(KINDS)):
            same = torch.zeros_like(row)
            x = paint(Attributes(same + kind, same, same, same + size, row, column), 32)
            assert len({r.numpy().tobytes() for r in x}) == len(x)
            total += data.log_prob(x).exp().sum().item()
    assert total * len(COLOURS) * len(GROUNDS) == pytest.approx(1)


def test_entropy_is_the_mean_of_minus_log_probability():
    """Within 5 standard errors: one false alarm in a million."""
    data = Shapes()
    nats = -data.log_prob(data.draw(2000, torch.Generator().manual_seed(3))["x"])
    assert abs(nats.mean() - data.entropy()) < 5 * nats.std() / 2000**0.5


@pytest.mark.parametrize("side", SIDES)
def test_mask_edges_and_low_resolution_against_loops(side):
    batch = Shapes(side=side).test(6)
    for x, mask, edges, low in zip(batch["x"], batch["mask"][:, 0], batch["edges"][:, 0], batch["low"], strict=True):
        assert torch.equal(mask == 0, (x == x[:, :1, :1]).all(0))  # a corner is always ground
        for r in range(side):
            for c in range(side):
                near = [(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)]
                whole = all(0 <= i < side and 0 <= j < side and mask[i, j] for i, j in near)
                assert edges[r, c] == (mask[r, c] and not whole)
        slow = [[x[:, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4].mean((1, 2)) for c in range(side // 4)] for r in range(2)]
        torch.testing.assert_close(low[:, :2], torch.stack([torch.stack(row, 1) for row in slow], 1))


def test_captions_say_what_is_seen():
    batch = Shapes().test(100)
    attributes = batch["attributes"].tolist()
    for (kind, colour, ground, size, row, column), sentence in zip(attributes, words(batch["caption"]), strict=True):
        place = f"{['top', 'middle', 'bottom'][row * 3 // 32]} {['left', 'centre', 'right'][column * 3 // 32]}"
        what = f"{[*SIZES][size]} {[*COLOURS][colour]} {KINDS[kind]}"
        assert sentence == f"a {what} at the {place} on the {[*GROUNDS][ground]} ground"
    assert len(set(WORDS)) == len(WORDS)
    assert torch.equal(batch["label"], batch["attributes"][:, 0])


def test_batches_are_fresh_and_the_same_in_every_instance():
    first, again = (iter(Shapes(batch=8).train_dataloader()) for _ in range(2))
    one, two = next(first), next(first)
    assert not torch.equal(one["x"], two["x"])
    assert all(torch.equal(v, w) for v, w in zip(one.values(), next(again).values(), strict=True))


@pytest.mark.parametrize("x", [torch.zeros(2, 1, 32, 32), torch.zeros(2, 3, 28, 28), torch.zeros(3, 32, 32)])
def test_pictures_of_another_shape_are_refused(x):
    with pytest.raises(ValueError, match=r"\[B, 3, S, S\] is needed"):
        read(x)


def test_nan_and_other_sides_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        read(torch.full((1, 3, 32, 32), math.nan))
    with pytest.raises(ValueError, match="32 or 64"):
        Shapes(side=48)
