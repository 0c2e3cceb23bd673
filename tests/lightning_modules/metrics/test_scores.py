"""Scores of samples by their features, against their definitions and closed forms."""

import math

import pytest
import torch

from lightning_modules.metrics import scores


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- the kernel distance


def test_the_kernel_distance_is_its_definition():
    """Every pair of different samples, slowly."""
    x, y = normal(6, 3, 0), normal(6, 3, 1)

    def mean(a, b, other):
        pairs = [(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if not other or i != j]
        return sum(((p @ q / 3 + 1) ** 3).item() for p, q in pairs) / len(pairs)

    found, error = scores.kernel_distance(x, y)
    assert found == pytest.approx(mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False))
    assert math.isnan(error)


def test_the_kernel_distance_of_one_distribution_is_zero_within_its_error():
    """Over 60 pairs of sets the standardised distances have mean 0 and deviation 1: each within 4.5 of its standard errors (1 in 100,000),
    the deviation's 1 / sqrt(120) being widened by the 10 subsets of which each error is made."""
    found = [scores.kernel_distance(normal(500, 8, 2 * i), normal(500, 8, 2 * i + 1), size=50) for i in range(60)]
    z = torch.tensor([value / error for value, error in found])
    assert abs(z.mean()) < 4.5 * z.std() / 60**0.5
    assert 0.6 < z.std() < 1.7
    value, error = scores.kernel_distance(normal(500, 8, 0), normal(500, 8, 1) + 1, size=50)
    assert value > 10 * error


def test_the_kernel_distance_of_a_shift_is_known():
    """In one dimension with x ~ N(0, 1), y ~ N(a, 1): E(xy+1)^3 over independent pairs is 1 + 3 m n + 3 E x^2 E y^2 + E x^3 E y^3
    with the moments of each; the distance follows, and is met within 5 standard errors."""
    a = 0.7
    one, two = (0.0, 1.0, 0.0), (a, 1 + a**2, a**3 + 3 * a)

    def kernel(p, q):
        return 1 + 3 * p[0] * q[0] + 3 * p[1] * q[1] + p[2] * q[2]

    exact = kernel(one, one) + kernel(two, two) - 2 * kernel(one, two)
    value, error = scores.kernel_distance(normal(40_000, 1, 0), normal(40_000, 1, 1) + a, size=500)
    assert abs(value - exact) < 5 * error < 0.3 * exact


def test_subsets_are_as_the_generator_draws_them():
    x, y = normal(300, 4, 0), normal(200, 4, 1)
    same = [scores.kernel_distance(x, y, size=50, rng=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert same[0] == same[1] != scores.kernel_distance(x, y, size=50, rng=torch.Generator().manual_seed(4))
    with pytest.raises(ValueError, match="at least 2"):
        scores.kernel_distance(x[:1], y)


# ---- precision and recall


def among(x, others, k):
    """The definition, slowly."""
    reach = [sorted((p - q).norm().item() for q in others)[k] for p in others]
    return sum(any((p - q).norm().item() <= r for q, r in zip(others, reach, strict=True)) for p in x) / len(x)


def test_precision_and_recall_are_their_definitions():
    drawn, real = 0.7 * normal(40, 2, 0) + 0.5, normal(60, 2, 1)
    precision, recall = scores.precision_recall(drawn, real)
    assert precision == among(drawn, real, 3) and recall == among(real, drawn, 3)
    assert 0 < recall < precision <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_sets_have_all_precision_and_recall_and_distant_ones_none(dtype):
    x = normal(2500, 64, 0).to(dtype) + 5  # more than one block, and far from 0, where squares cancel
    assert scores.precision_recall(x, x.clone()) == (1, 1)
    assert scores.precision_recall(x, x + 100) == (0, 0)
    again = x[:5].repeat(500, 1)  # all samples are copies of five: precise, and nearly without recall
    precision, recall = scores.precision_recall(again, x)
    assert precision == 1 and recall == pytest.approx(5 / 2500)


def test_too_few_samples_have_no_neighbours():
    with pytest.raises(ValueError, match="more than 3 samples of either kind, not 3 and 9"):
        scores.precision_recall(normal(3, 2, 0), normal(9, 2, 1))


# ---- the score by classes


@pytest.mark.parametrize("classes", [2, 10])
def test_the_score_of_sure_classes_in_equal_shares_is_their_number(classes):
    label = torch.arange(100 * classes) % classes
    sure = 1000.0 * torch.nn.functional.one_hot(label, classes)
    assert scores.class_score(sure) == pytest.approx(classes)
    assert scores.class_score(torch.zeros(100, classes)) == pytest.approx(1)  # unsure
    assert scores.class_score(sure[:1].expand(100, -1)) == pytest.approx(1)  # one class alone


def test_the_score_is_the_mean_over_splits_of_its_definition():
    logits = normal(40, 5, 0)
    values = []
    for part in logits.softmax(1).chunk(4):
        mean = part.mean(0)
        values.append(math.exp(sum((p * (p / mean).log()).sum().item() for p in part) / len(part)))
    assert scores.class_score(logits, splits=4) == pytest.approx(sum(values) / 4)
