"""Controls computed from pictures: edges against known ones, masks against the truth of the shapes, and their place in a source."""

import pytest
import torch

from datamodules.base import Endless
from datamodules.controls import CONTROLS, Controlled, edges, mask, overlap, separating
from datamodules.labs.shapes import Shapes, read, silhouette


@pytest.fixture(scope="module")
def pictures():
    return Shapes(side=32).draw(64, torch.Generator().manual_seed(0))


def step_edge(height=0.8, side=16):
    x = torch.zeros(1, 1, side, side)
    x[..., side // 2 :] = height
    return x


def test_the_edge_between_two_halves_is_one_line_of_pixels_at_their_border():
    for picture, turn in ((step_edge(2.0), False), (step_edge(2.0).mT, True)):
        found = edges(picture)[0, 0]
        found = found.T if turn else found
        columns = found.sum(0)
        assert columns.sum() == 16 and columns.max() == 16 and columns.argmax().item() in (7, 8)


def test_weak_edges_count_only_where_they_continue_strong_ones():
    """A border whose height falls along it: with both thresholds its weak end is kept, alone it is not."""
    x = step_edge(1.0, 32) * torch.linspace(1.0, 0.3, 32)[:, None]
    whole, strong = edges(x, low=0.05, high=0.2), edges(x, low=0.2, high=0.2)
    assert whole.sum() == 32 > strong.sum() > 0
    assert edges(x[:, :, -8:], low=0.05, high=0.2).sum() == 0


def test_a_plain_picture_has_no_edges_and_no_mask():
    x = torch.full((2, 3, 16, 16), 0.3)
    assert edges(x).sum() == 0 and mask(x).sum() == 0


def test_the_edges_of_shapes_lie_within_a_pixel_of_the_true_ones(pictures):
    found, truth = edges(pictures["x"]), pictures["edges"]
    near = torch.nn.functional.max_pool2d(truth, 3, 1, 1)
    assert (found * near).sum() / found.sum() > 0.99
    reached = torch.nn.functional.max_pool2d(found, 3, 1, 1)
    assert (truth * reached).sum() / truth.sum() > 0.9


def test_the_masks_of_shapes_are_the_true_ones(pictures):
    """By the colours alone: the ground's is the border's, and no shape touches more than half of that."""
    assert overlap(mask(pictures["x"]), pictures["mask"]).min() == 1


def test_the_threshold_lies_between_two_far_groups():
    values = torch.cat([torch.randn(2, 300, generator=torch.Generator().manual_seed(0)), torch.randn(2, 100) + 10], 1)
    found = separating(values)
    assert ((found > 3) & (found < 7)).all()


def test_the_silhouette_of_true_pictures_is_their_mask(pictures):
    seen = silhouette(pictures["x"])
    assert torch.equal(seen.mask, pictures["mask"][:, 0])
    assert torch.equal(seen.colour, pictures["attributes"][:, 1]) and torch.equal(
        seen.ground, pictures["attributes"][:, 2]
    )
    assert torch.equal(read(pictures["x"]).overlap, torch.ones(64))


def test_overlap_is_the_shared_over_the_whole_area():
    one, other = torch.zeros(3, 4), torch.zeros(3, 4)
    one[0, :2], other[0, 1:3] = 1, 1
    one[1, 0] = 1
    assert overlap(one, other).tolist() == pytest.approx([1 / 3, 0, 1])


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_source_s_batches_have_the_control_of_their_own_rows(kind):
    source = Controlled(Endless(Shapes().draw), kind)
    whole, part = source.rows(1, 2, 8, 0, 8), source.rows(1, 2, 8, 3, 6)
    assert whole["control"].shape == (8, 1, 32, 32)
    assert torch.equal(part["control"], whole["control"][3:6])
    assert torch.equal(whole["control"], CONTROLS[kind](whole["x"]))
