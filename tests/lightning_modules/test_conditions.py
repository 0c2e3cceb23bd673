"""Conditions: their checks, one sentence each, and what can be done with them."""

import pytest
import torch

from lightning_modules.conditions import UNCONDITIONAL, Cond, as_cond, from_batch, label_rows

CPU = torch.device("cpu")


def whole():
    return Cond(
        label=torch.arange(3),
        text=torch.zeros(3, 5, 4),
        mask=torch.ones(3, 5, dtype=torch.bool),
        vector=torch.zeros(3, 7),
        image=torch.zeros(3, 1, 4, 4),
        control=torch.zeros(3, 3, 8, 8),
        numbers=torch.zeros(3, 2),
        hidden={"label": torch.tensor([False, True, False]), "text": torch.tensor([True, True, False])},
    )


def test_rows_take_the_same_examples_of_every_field():
    cond = whole().rows(torch.tensor([2, 1]))
    assert cond.size == 2
    assert {len(v) for v in cond.given.values()} == {2}
    assert cond.label.tolist() == [2, 1]
    assert cond.hidden["text"].tolist() == [False, True]
    assert whole().rows(slice(0, 1)).size == 1
    assert whole().to("cpu").hidden["label"].tolist() == [False, True, False]


def test_what_is_left_out_is_absent_and_no_longer_hidden():
    cond = whole().without("label", "image")
    assert cond.label is None and cond.image is None and cond.text is not None
    assert set(cond.hidden) == {"text"}
    assert whole().without(*whole().given).size is None
    assert UNCONDITIONAL.size is None
    assert whole().hiding({}).hidden == {}


def test_labels_hidden_or_absent_take_the_last_row():
    assert label_rows(whole(), 3, 3, CPU).tolist() == [0, 3, 2]
    assert label_rows(UNCONDITIONAL, 3, 2, CPU).tolist() == [3, 3]
    with pytest.raises(ValueError, match=r"Labels must be in 0\.\.1, not 0\.\.2"):
        label_rows(whole(), 2, 3, CPU)


def test_labels_and_batches_become_conditions():
    label = torch.tensor([1, 0])
    assert as_cond(label).label is label
    assert as_cond(None) is UNCONDITIONAL
    cond = whole()
    assert as_cond(cond) is cond
    made = from_batch("label")({"x": torch.zeros(2, 3), "label": label})
    assert list(made.given) == ["label"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": torch.zeros(2, 1, dtype=torch.long)}, r"'label' has shape \(2, 1\) but must have rank 1"),
        ({"label": torch.zeros(2)}, "'label' must hold integers, not torch.float32"),
        ({"image": torch.zeros(2, 3)}, r"'image' has shape \(2, 3\) but must have rank 4"),
        ({"mask": torch.ones(2, 5, dtype=torch.bool)}, "must mark the tokens of a 'text'"),
        ({"text": torch.zeros(2, 4, 3), "mask": torch.ones(2, 5).bool()}, "must mark the tokens of a 'text'"),
        (
            {"vector": torch.zeros(2, 3), "numbers": torch.zeros(3, 1)},
            "different batch sizes: {'vector': 2, 'numbers': 3}",
        ),
        ({"hidden": {"label": torch.tensor([True])}}, "hidden rows of 'label' must be bool"),
        ({"vector": torch.zeros(2, 3), "hidden": {"vector": torch.tensor([True])}}, "different batch sizes"),
        ({"vector": torch.zeros(2, 3), "hidden": {"vector": torch.zeros(2)}}, "hidden rows of 'vector' must be bool"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Cond(**fields)


def test_a_network_refuses_what_it_has_no_place_for():
    with pytest.raises(ValueError, match="U-Net was built without labels: leave out the condition 'label'"):
        Cond(label=torch.zeros(1, dtype=torch.long)).allow("text", owner="The U-Net")
    Cond(text=torch.zeros(1, 2, 3), mask=torch.ones(1, 2, dtype=torch.bool)).allow("text")
    with pytest.raises(ValueError, match="without numbers"):
        Cond(numbers=torch.zeros(1, 2)).allow()
