"""Which library takes a learner's products, and that they are float32's whoever takes them."""

import pytest
import torch

from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.fast import matmul
from ray_jobs.rl.together.seeds import Together
from tests.ray_jobs.rl.learning.test_training import recipe, training
from tests.ray_jobs.rl.scripted import Memory


def asked(width):
    """A training whose updates say whether products are as precise as elsewhere."""
    t = training(
        recipe(DQN(width=width, learning_starts=8, train_every=8, updates_per_train=1, batch_size=8), envs=2), Memory()
    )
    t.learner.update = lambda data: {"precise": torch.tensor(torch.get_float32_matmul_precision() == "highest")}
    return t


@pytest.mark.parametrize("quicker", [False, True])
@pytest.mark.parametrize(("width", "seeds", "large"), [(181, 1, False), (182, 1, True), (64, 7, False), (64, 8, True)])
def test_large_products_are_left_to_onednn_where_it_is_quicker(width, seeds, large, quicker, monkeypatch):
    monkeypatch.setattr(matmul, "onednn_is_quicker", lambda: quicker)
    trainings = [asked(width) for _ in range(seeds)]
    at_work = trainings[0] if seeds == 1 else Together(trainings)
    at_work.round()
    assert all(at_work.stats["precise"].ravel() == (not (large and quicker)))
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("quicker", [False, True])
@pytest.mark.parametrize(
    ("family", "a", "b", "large"),
    [
        (26, (64, 128), (128, 128), True),
        (26, (64, 127), (127, 128), False),
        (26, (15, 64, 4), (15, 4, 64), False),
        (26, (16, 64, 4), (16, 4, 64), True),
        (26, (4, 64, 64), (4, 64, 64), True),
        (25, (128, 256), (256, 256), True),
        (25, (127, 256), (256, 256), False),
        (25, (16, 64, 4), (16, 4, 64), True),
    ],
)
def test_each_product_goes_where_it_is_quicker(family, a, b, large, quicker, monkeypatch):
    monkeypatch.setattr(matmul, "onednn_is_quicker", lambda: quicker)
    monkeypatch.setattr(matmul, "amd_family", lambda: family)
    monkeypatch.setattr(matmul, "onednn_from", matmul.onednn_from.__wrapped__)
    precise = []

    def product(a, b, out):
        precise.append(torch.get_float32_matmul_precision() == "highest")
        return torch.matmul(a, b, out=out)

    a, b = torch.ones(a), torch.ones(b)
    with matmul.arithmetic("float32", matmul.MANY):
        found = matmul.product(product, a, b, out=torch.empty(0))
        assert torch.get_float32_matmul_precision() == ("medium" if quicker else "highest")
    assert precise == [not (large and quicker)]
    assert (found == a.shape[-1]).all()
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.skipif(not matmul.onednn_is_quicker(), reason="MKL is as quick here, or oneDNN rounds to bfloat16")
@pytest.mark.parametrize("shape", [(256, 376, 256), (64, 64, 4, 64), (64, 256, 64, 64), (64, 64, 64, 1)])
def test_products_left_to_onednn_are_those_of_float32(shape):
    """The error of a sum of n products is at most that of n roundings of what the products' sizes sum to; with bfloat16's it is larger."""
    *many, m, k, n = shape
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*many, *size, generator=rng) for size in ((m, k), (k, n)))
    with matmul.arithmetic("float32", matmul.MANY):
        found = a @ b
    bound = k * torch.finfo().eps / 2 * (a.double().abs() @ b.double().abs())
    assert ((found - a.double() @ b.double()).abs() <= bound).all()
    rounded = a.bfloat16().double() @ b.bfloat16().double()
    assert ((rounded - a.double() @ b.double()).abs() > bound).any(), "what this test is to tell"
