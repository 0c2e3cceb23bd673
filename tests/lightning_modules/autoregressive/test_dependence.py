"""What each number depends on, by gradients, against reachability by hand; probabilities that sum to one; quick samplers."""

import itertools
import math

import pytest
import torch

from datamodules.labs.ising import Ising, every
from lightning_modules.autoregressive.diagonal_bilstm import DiagonalBiLSTM, skew, unskew
from lightning_modules.autoregressive.made import MADE
from lightning_modules.autoregressive.pixelcnn import PixelCNN
from lightning_modules.autoregressive.pixels import MaskedConv
from lightning_modules.autoregressive.row_lstm import RowLSTM
from lightning_modules.draws import Draws
from lightning_modules.model import Density, Samples
from lightning_modules.optim import Adam

PIXELS = {"pixelcnn": PixelCNN, "row_lstm": RowLSTM, "diagonal_bilstm": DiagonalBiLSTM}
SHAPES = [(1, 5, 6), (2, 4, 5), (3, 4, 4)]


def image(name, shape, levels=3, depth=2, width=8):
    return PIXELS[name](shape, depth=depth, width=width, head=48, levels=levels).double()


def same_order(place, other):
    """Raster order of places (c, i, j): whether `other` comes before `place`."""
    (c, i, j), (d, k, l) = place, other
    return (k, l, d) < (i, j, c)


def seen(model, shape, tries=4):
    """Which inputs [D] move the logits of which places [D], by gradients at several random images."""
    size = math.prod(shape)
    found = torch.zeros(size, size, dtype=torch.bool)
    for _ in range(tries):
        x = torch.randn(1, *shape, dtype=torch.float64, requires_grad=True)
        out = model.logits(x, None).flatten(0, -2)
        weight = torch.randn(out.shape[1], dtype=torch.float64)
        for p in range(size):
            (slope,) = torch.autograd.grad(out[p] @ weight, x, retain_graph=True)
            found[p] |= slope.flatten() != 0
    return found


def places(shape):
    return list(itertools.product(*map(range, shape)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PIXELS)
def test_each_pixel_and_colour_is_told_from_earlier_ones_only(name, shape, seeded):
    found = seen(image(name, shape), shape)
    order = torch.tensor([[same_order(p, q) for q in places(shape)] for p in places(shape)])
    assert not (found & ~order).any()
    nearest = [p for p in places(shape) if p[2] > 0 and p[0] == 0]  # the left neighbour is always seen
    for p in nearest:
        assert found[places(shape).index(p), places(shape).index((0, p[1], p[2] - 1))]


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 4, 4)], ids=str)
def test_the_diagonal_lstm_sees_all_that_came_before(shape, seeded):
    """But for one pixel: the last of the row above enters no feature of that row, and is too far for the 7x7 of the own."""
    w = shape[2]
    order = torch.tensor(
        [
            [same_order(p, q) and not (q[1] == p[1] - 1 and q[2] == w - 1 > p[2] + 3) for q in places(shape)]
            for p in places(shape)
        ]
    )
    model = image("diagonal_bilstm", shape, depth=1, width=12)
    assert torch.equal(seen(model, shape, tries=2), order)


def test_the_row_lstm_sees_a_triangle_above(seeded):
    """7x7 with mask A and then a row layer: above row i, as far sideways as 3 more and one more with each row."""
    shape = (1, 9, 15)
    found = seen(image("row_lstm", shape, depth=1), shape, tries=2)
    at = places(shape).index((0, 8, 7))
    for (_, i, j), hit in zip(places(shape), found[at].tolist(), strict=True):
        rows = 8 - i
        if i == 8:
            assert hit == (3 <= j < 7)
        else:
            # row r of the state reads the entering map at j - 1 and j, and that reads 3 rows up and 3 columns to both sides
            reach = any((abs(j - m) <= 3 + (8 - r) + (1 if j < m else 0) and 0 < r - i <= 3) or (r == i and -(4 + 8 - r) <= j - m < 8 - r)
                        for r in range(i, 9) for m in [7])  # fmt: skip
            assert hit == reach, (rows, j)


def test_the_receptive_field_of_pixelcnn_is_that_of_its_masks(seeded):
    """By following booleans through the taps one by one: the blind spot to the upper right is there."""
    shape = (1, 9, 13)
    found = seen(image("pixelcnn", shape, depth=2), shape, tries=4)
    _, h, w = shape
    before = [(0, -a) for a in (1, 2, 3)] + [(-u, s) for u in (1, 2, 3) for s in range(-3, 4)]
    look = [(0, 0), (0, -1), (-1, -1), (-1, 0), (-1, 1)]
    field = {(0, 0)}
    for taps in (look, look, before):
        field = {(a + c, b + d) for a, b in field for c, d in taps}
    for (_, i, j), row in zip(places(shape), found, strict=True):
        expected = torch.tensor([(k - i, l - j) in field and _inside(k, l, h, w) for _, k, l in places(shape)])
        # paths that leave the image end there: reachability inside is smaller near edges, never larger
        assert not (row & ~expected).any()
        if i >= 5 and 5 <= j < w - 5:
            assert torch.equal(row, expected)


def _inside(i, j, h, w):
    return 0 <= i < h and 0 <= j < w


@pytest.mark.parametrize("strict", [True, False])
def test_a_mask_by_its_definition(strict):
    conv = MaskedConv(7, 10, (5, 3), colours=3, strict=strict, parts=2)
    inputs, outputs = [0, 0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2] * 2
    for o, i, u, s in itertools.product(range(10), range(7), range(3), range(3)):
        above, left, here = u < 2, u == 2 and s < 1, u == 2 and s == 1
        earlier = inputs[i] < outputs[o] if strict else inputs[i] <= outputs[o]
        assert conv.mask[o, i, u, s] == (above or left or (here and earlier))


def test_skewing_moves_each_row_and_unskewing_brings_it_back():
    x = torch.arange(2 * 3 * 4.0).view(2, 3, 4) + 1
    found = skew(x)
    for i in range(3):
        assert torch.equal(found[:, i, i : i + 4], x[:, i])
    assert found.sum() == x.sum() and torch.equal(unskew(found, 4), x)


# ---- MADE


@pytest.mark.parametrize("orders", [1, 3])
def test_made_tells_each_bit_from_those_before_it_in_every_order(orders, seeded):
    model = MADE((1, 3, 4), hidden=(40, 40), orders=orders).double()
    for order in model.orders:
        model.net.set_order(order)
        found = seen(model, (1, 3, 4), tries=20)[order][:, order]
        assert torch.equal(found, torch.ones(12, 12).tril(-1).bool())


def test_turning_is_building_with_that_order(seeded):
    model = MADE((6,), hidden=(9, 8), orders=2)
    fresh = MADE((6,), hidden=(9, 8))
    fresh.net = type(model.net)(6, (9, 8), 1, order=model.orders[1])
    model.net.set_order(model.orders[0])
    fresh.net.load_state_dict({k: v for k, v in model.net.state_dict().items() if k.startswith("layers")}, strict=False)
    model.net.set_order(model.orders[1])
    x = torch.randn(5, 6)
    torch.testing.assert_close(model.net(x), fresh.net(x))


def test_the_order_of_a_step_is_the_same_on_all_workers():
    model = MADE((6,), hidden=(8,), orders=5)
    chosen = []
    for step in range(40):
        for part in range(2):
            model.draws = Draws(0, step, part, 2)
            model.losses({"x": torch.ones(3, 6)})
            chosen.append(model.net.order.tolist())
    assert chosen[::2] == chosen[1::2] and len({tuple(o) for o in chosen}) == 5


# ---- all of them

ALL = {
    **{name: lambda name=name: image(name, (1, 3, 3), levels=2) for name in PIXELS},
    "made": lambda: MADE((1, 3, 3), hidden=(16,)).double(),
    "made, 4 orders": lambda: MADE((1, 3, 3), hidden=(16, 16), orders=4).double(),
    "made, classes": lambda: MADE((1, 3, 3), hidden=(16, 16), orders=2, classes=3).double(),
}


@pytest.mark.parametrize("name", ALL)
def test_the_probabilities_of_all_images_sum_to_one(name, seeded):
    model, x = ALL[name](), every((1, 3, 3))
    cond = torch.full((len(x),), 1) if model.classes else None
    with torch.no_grad():
        logs = model.log_prob(x, cond)
        assert logs.exp().sum().item() == pytest.approx(1, abs=1e-12)
        bits = model.bits_per_dim(x[:4], cond[:4] if cond is not None else None)
    torch.testing.assert_close(bits, -logs[:4] / (9 * math.log(2)))
    assert isinstance(model, Density) and isinstance(model, Samples)


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 1, 3), (3, 2, 1)], ids=str)
@pytest.mark.parametrize("name", PIXELS)
def test_colours_and_levels_sum_to_one(name, shape, seeded):
    size = math.prod(shape)
    x = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * size).view(-1, *shape).double()
    assert image(name, shape).log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("name", PIXELS)
def test_the_quick_sampler_draws_the_pixels_of_the_naive_one(name, shape, seeded):
    model = image(name, shape, levels=5)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.5)  # so that what is wrong somewhere is seen in the pixels
    quick, naive = (model.sample(7, rng=torch.Generator().manual_seed(1), naive=n) for n in (False, True))
    assert torch.equal(quick, naive) and len(quick.unique()) == 5


@pytest.mark.parametrize("name", ["made", "made, 4 orders", "made, classes"])
def test_mades_quick_sampler_draws_the_bits_of_the_naive_one(name, seeded):
    model = ALL[name]()
    for n in (2, 50):
        quick, naive = (model.sample(n, rng=torch.Generator().manual_seed(1), naive=v) for v in (False, True))
        assert torch.equal(quick, naive)


@pytest.mark.parametrize("name", ALL)
def test_draws_are_what_the_probabilities_say(name, seeded):
    """Chi-square over 512 images of 20,000 draws, those expected less than 5 times taken together; one false alarm in 10,000."""
    from scipy.stats import chi2

    model, x = ALL[name](), every((1, 3, 3))
    n = 20_000
    cond = torch.zeros(n, dtype=torch.long) if model.classes else None
    drawn = model.sample(n, cond, rng=torch.Generator().manual_seed(0))
    index = ((drawn.flatten(1) > 0) * 2 ** torch.arange(9)).sum(1)
    expected = n * model.log_prob(x, cond[:512] if cond is not None else None).exp().detach()
    got, rare = torch.bincount(index, minlength=512).double(), expected < 5
    expected = torch.cat([expected[~rare], expected[rare].sum()[None].clamp(min=1e-9)])
    got = torch.cat([got[~rare], got[rare].sum()[None]])
    assert ((got - expected).square() / expected).sum() < chi2.isf(1e-4, len(got) - 1)


def test_made_learns_a_source_whose_entropy_is_known(seeded):
    data = Ising()
    model = MADE(data.shape, hidden=(64, 64), optim=Adam(3e-3))
    optimizer = model.configure_optimizers()["optimizer"]
    assert data.kl(model.log_prob(data.all.float()).detach()) > 0.5
    for step in range(400):
        optimizer.zero_grad()
        model.losses(data.source.rows(0, step, 256, 0, 256))["nll"].backward()
        optimizer.step()
    logs = model.log_prob(data.all.float()).detach()
    assert 0 <= data.kl(logs) < 0.05
    assert data.kl(logs) == pytest.approx(-(data.logs.exp() * logs).sum().item() - data.entropy(), abs=1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: image("pixelcnn", (1, 3, 3)).log_prob(torch.zeros(2, 3, 3, 3)), "of shape"),
        (lambda: image("row_lstm", (1, 3, 3)).log_prob(torch.full((2, 1, 3, 3), 0.5).double()), "3 levels"),
        (lambda: image("row_lstm", (1, 3, 3)).log_prob(torch.full((2, 1, 3, 3), math.nan).double()), "3 levels"),
        (lambda: image("row_lstm", (1, 3, 3)).log_prob(torch.full((2, 1, 3, 3), 2.0).double()), "3 levels"),
        (lambda: MADE((4,)).log_prob(torch.zeros(2, 5)), "of shape"),
        (lambda: MADE((4,), classes=2).log_prob(torch.ones(2, 4)), "give the labels"),
        (lambda: MADE((4,), orders=0), "at least 1 order"),
        (lambda: PixelCNN((3, 4, 4), width=2), "colours need"),
        (lambda: PixelCNN((4, 4)), "have a shape"),
        (lambda: PixelCNN((1, 4, 4), levels=1), "at least 2 levels"),
        (lambda: Ising(side=5), "side must be 1 to 4"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize("n", [1, 3, 50])
def test_made_draws_each_example_from_an_order_of_its_own(n, seeded):
    """The mixture of 4 orders in calls of any size: each bit has the chance that the exact probabilities of all vectors give."""
    model = MADE((3,), hidden=(8,), orders=4)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=2)
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    wanted = model.log_prob(every).exp()
    assert wanted.sum().item() == pytest.approx(1, abs=1e-5)
    rng = torch.Generator().manual_seed(0)
    x = torch.cat([model.sample(n, rng=rng) for _ in range(3000 // n)])
    found = (x[:, None] == every).all(2).double().mean(0)
    error = (wanted * (1 - wanted) / len(x)).sqrt()
    assert ((found - wanted).abs() < 5 * error + 1e-6).all()
