"""The order of the data is a pure function of seed and step, whoever shares the batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.base import Data, Endless, Finite, From, Share, table


def numbers(size):
    return table(x=torch.arange(size))


def batch_of(source, step, *, seed=0, batch=8, world=1, accumulate=1):
    """The global batch of a step, put together from all workers and micro-batches in their order."""
    shares = [Share(source, seed, batch, accumulate, rank, world) for rank in range(world)]
    parts = [share[step * accumulate + micro]["x"] for micro in range(accumulate) for share in shares]
    return torch.cat(parts)


@given(st.integers(0, 30), st.integers(0, 3), st.sampled_from([(1, 1), (2, 1), (1, 4), (2, 2), (4, 2)]))
@settings(max_examples=40, deadline=None)
def test_global_batch_does_not_depend_on_who_shares_it(step, seed, cut):
    world, accumulate = cut
    for source in (numbers(50), Endless(lambda n, rng: {"x": torch.randn(n, generator=rng)})):
        whole = batch_of(source, step, seed=seed)
        assert torch.equal(batch_of(source, step, seed=seed, world=world, accumulate=accumulate), whole)


def test_every_example_comes_once_an_epoch_as_far_as_the_batch_divides():
    source = numbers(50)
    epochs = [torch.cat([batch_of(source, 6 * epoch + k) for k in range(6)]) for epoch in range(3)]
    for seen in epochs:
        assert len(seen.unique()) == 48
    assert not torch.equal(epochs[0], epochs[1])
    assert len(torch.cat(epochs).unique()) == 50


def test_seeds_give_different_orders_and_steps_can_be_visited_in_any_order():
    source = numbers(50)
    late, early = batch_of(source, 17), batch_of(source, 2)
    assert torch.equal(late, batch_of(numbers(50), 17))
    assert torch.equal(early, batch_of(numbers(50), 2))
    assert not torch.equal(early, batch_of(source, 2, seed=1))


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of 6"):
        Share(numbers(50), 0, 8, 2, 0, 3)
    with pytest.raises(ValueError, match="only 5 examples"):
        Finite(5, lambda index: {}).rows(0, 0, 8, 0, 8)


class Some(Data):
    def setup(self, stage):
        self.source = numbers(50)


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_begins_where_it_is_told(workers):
    first, later = (Some(batch=8, num_workers=workers) for _ in range(2))
    later.start = 9
    stream = iter(first.train_dataloader())
    ten = [next(stream)["x"] for _ in range(10)]
    assert torch.equal(next(iter(later.train_dataloader()))["x"], ten[9])


def test_from_counts_without_end():
    stream = iter(From(3))
    assert [next(stream) for _ in range(4)] == [3, 4, 5, 6]
