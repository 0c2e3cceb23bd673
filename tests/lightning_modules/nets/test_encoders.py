"""Networks of classifiers: their shapes, that every weight counts, the attention pool as it is written, and sizes that are refused."""

import pytest
import torch
from torch.nn import functional as F

from lightning_modules.conditions import Cond
from lightning_modules.nets.encoders import AttentionPool, UNetEncoder, VectorEncoder
from tests.lightning_modules.nets.awake import awake

DOUBLE = torch.float64


def unet(**options):
    return UNetEncoder(
        (3, 8, 16), 5, **{"width": 8, "multiples": (1, 2), "blocks": 1, "attention": (1,), "head": 4, **options}
    )


NETS = {
    "unet": (unet, (3, 8, 16)),
    "unet of two blocks and heads": (lambda: unet(blocks=2, attention=(0, 1), head=8), (3, 8, 16)),
    "perceptron": (lambda: VectorEncoder((2, 3), 5, width=8, depth=2), (2, 3)),
}


@pytest.mark.parametrize("case", NETS)
def test_logits_are_of_the_classes_and_every_weight_counts(case, seeded):
    net, shape = NETS[case][0](), NETS[case][1]
    awake(net)
    x, level = torch.randn(4, *shape), torch.randn(4)
    logits = net(x, level)
    assert logits.shape == (4, 5)
    F.cross_entropy(logits, torch.arange(4)).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert not torch.equal(net(x, level + 1), logits)
    torch.testing.assert_close(net(x[2:], level[2:]), logits[2:])


def test_the_pool_is_attention_of_the_mean_to_all_positions(seeded):
    """By the formula, for each head: softmax(q k / sqrt(d)) v with the query of the mean alone, positions counted in."""
    pool, x = AttentionPool(6, 4, 2, 5).double(), torch.randn(3, 6, 2, 2, dtype=DOUBLE)
    rows = x.flatten(2).mT
    rows = torch.cat([rows.mean(1, keepdim=True), rows], 1) + pool.place
    q, k, v = (part.unflatten(2, (2, 3)) for part in pool.qkv(rows).chunk(3, 2))  # [B, N, heads, dim]
    found = []
    for head in range(2):
        score = torch.einsum("bd,bnd->bn", q[:, 0, head], k[:, :, head]) / 3**0.5
        found.append(torch.einsum("bn,bnd->bd", score.softmax(1), v[:, :, head]))
    torch.testing.assert_close(pool(x), pool.leave(torch.cat(found, 1)))


def test_sizes_and_conditions_that_do_not_fit_are_refused(seeded):
    with pytest.raises(ValueError, match=r"halves images 2 times.*multiples of 4"):
        UNetEncoder((3, 8, 10), 5, width=8, multiples=(1, 2, 2), blocks=1, attention=(), head=8)
    with pytest.raises(ValueError, match="heads"):
        unet(width=5, head=3)
    with pytest.raises(ValueError, match="without labels"):
        unet()(torch.zeros(1, 3, 8, 16), torch.zeros(1), Cond(label=torch.zeros(1, dtype=torch.long)))
