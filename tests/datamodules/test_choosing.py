"""Settings are chosen on examples that are neither trained on nor in the test part."""

import numpy as np
import pytest
import torch

from datamodules.base import Endless, Finite, part_of, table
from datamodules.binary import Binary
from datamodules.choosing import Choosing
from datamodules.duplicates import among, repeated
from datamodules.labs.density2d import Density2D
from datamodules.readers.digits import Digits
from datamodules.readers.tables import Vectors


def ids(x):
    return {row.numpy().tobytes() for row in x.contiguous()}


def epoch(data):
    """All examples of the first epochs of a training, as often as they come."""
    source = data.source
    return torch.cat([source.rows(0, step, 7, 0, 7)["x"] for step in range(600)])


@pytest.mark.parametrize("make", [Digits, lambda: Binary(Digits(levels=17)), lambda: Digits(levels=4)])
def test_the_validation_part_is_of_the_training_part_and_not_trained_on(make):
    whole, chosen = make(), Choosing(make())
    whole.setup("fit"), chosen.setup("fit")
    held, test = chosen.test()["x"], whole.test()["x"]
    trained = ids(epoch(chosen))
    assert len(held) == 150 and len(chosen.test(7)["x"]) == 7
    assert ids(held) <= ids(whole.seen()["x"])
    assert trained <= ids(whole.seen()["x"])
    if not isinstance(whole, Binary):  # black and white digits repeat
        assert not ids(held) & ids(test)
        assert not ids(held) & trained
        assert len(chosen.seen()["x"]) == 1350 and not ids(chosen.seen()["x"]) & ids(held)
    assert torch.equal(held, Choosing(make()).test()["x"])


def test_no_form_of_an_example_to_choose_by_is_trained_on():
    source = Finite(40, lambda index: {"x": torch.from_numpy(index)}, 2)
    kept, held = source.divided()
    assert kept.size == 36
    trained = {int(i) % 20 for step in range(4) for i in kept.rows(0, step, 9, 0, 9)["x"]}
    assert trained | set(held(None)["x"].tolist()) == set(range(20))
    assert not trained & set(held(None)["x"].tolist())


def test_a_laboratory_chooses_on_draws_of_its_own():
    data = Choosing(Density2D())
    data.setup("fit")
    assert part_of(data) == "validation" and part_of(data.of) == "fresh draws"
    assert not torch.equal(data.test(10)["x"], data.of.test(10)["x"])
    assert torch.equal(data.test(10)["x"], data.test(10)["x"])
    assert torch.equal(data.log_prob(data.test(3)["x"]), data.of.log_prob(data.test(3)["x"]))
    assert isinstance(data.source, Endless)


def test_own_tables_choose_too_and_the_smallest_says_what_it_needs(tmp_path):
    np.savetxt(tmp_path / "a.csv", np.random.default_rng(0).normal(size=(100, 2)), delimiter=",")
    data = Choosing(Vectors(tmp_path / "a.csv"))
    assert len(data.test()["x"]) == 9 and len(data.seen()["x"]) == 81
    with pytest.raises(ValueError, match="at least 2 are needed"):
        table(x=torch.zeros(1)).divided()


def test_held_out_examples_that_are_trained_on_are_counted():
    digits, binary = Digits(), Binary(Digits())
    digits.setup("fit"), binary.setup("fit")
    assert repeated(digits) == 0
    assert repeated(binary) == 12
    fresh = Density2D()
    assert repeated(fresh) is None


def test_held_out_digits_are_not_trained_on_at_any_number_of_levels():
    for levels in (2, 3, 4, 17):
        data = Digits(levels=levels)
        data.setup("fit")
        assert not among(data.test()["x"], data.seen()["x"]).any()
        assert len(data.test()["x"]) == 297


def test_the_noise_that_examples_are_paired_with_stays():
    from datamodules.transport import Transported

    data = Density2D()
    data.paired = Transported
    assert Choosing(data).paired is Transported
