"""What every bijection keeps, found by walking the package: inverse, log-determinant, finiteness, compilation, saving."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

import pytest
import torch
from torch import nn

from lightning_modules import flows
from lightning_modules.flows import autoregressive, bijection, coupling, elementwise, images, linear, mixture, nsf
from lightning_modules.flows.bijection import Bijection
from lightning_modules.nets.conditioned import MLP, ConvNet, Residual
from lightning_modules.nets.masked import MaskedMLP

COND = 3
VECTOR, IMAGE = (5,), (2, 4, 4)


def coupled(flip: bool, scale_and_shift) -> Bijection:
    half = coupling.Halves(5, flip=flip)
    known, moved = half.sizes[::-1] if flip else half.sizes
    each = 1 if scale_and_shift is coupling.additive else 2
    return coupling.Coupling(half, MLP(known, each * moved, width=8, cond=COND), scale_and_shift)


def alternating(count: int, scale_and_shift) -> Bijection:
    each = 1 if scale_and_shift is coupling.additive else 2
    net = lambda fixed, changing: MLP(fixed, each * changing, width=8, cond=COND)  # noqa: E731
    return bijection.Chain(coupling.alternating(5, count, net, scale_and_shift))


def masked(*hidden: int, order=None) -> Bijection:
    return autoregressive.Autoregressive(MaskedMLP(5, hidden, 2, cond=COND, order=order))


def splined(flip: bool) -> Bijection:
    half = coupling.Halves(5, flip=flip)
    known, moved = half.sizes[::-1] if flip else half.sizes
    return nsf.SplineCoupling(half, MLP(known, 11 * moved, width=8, cond=COND), bins=4, bound=1.5)


def masked_spline(order=None) -> Bijection:
    net = MaskedMLP(5, (16, 16), 11, cond=COND, order=order)
    return nsf.SplineAutoregressive(net, bins=4, bound=1.5)


def mixed(order=None) -> Bijection:
    return mixture.MixtureAutoregressive(MaskedMLP(5, (16, 16), 9, cond=COND, order=order))


def multiscale() -> Bijection:
    steps = [
        bijection.Chain([images.Squeeze(), linear.InvertibleLinear(8)]),
        bijection.Chain([images.Squeeze(), linear.InvertibleLinear(16)]),
    ]
    return images.MultiScale(steps, [(8, 2, 2), (16, 1, 1)], [nn.Conv2d(4, 8, 3, padding=1)])


CASES: dict[str, tuple[Callable[[], Bijection], tuple[int, ...]]] = {
    "Scale": (lambda: elementwise.Scale(VECTOR), VECTOR),
    "Logit": (lambda: elementwise.Logit(-30.0, 30.0), VECTOR),
    "ActNorm": (lambda: elementwise.ActNorm(IMAGE), IMAGE),
    "BatchNorm": (lambda: elementwise.BatchNorm(VECTOR), VECTOR),
    "BatchNorm, images": (lambda: elementwise.BatchNorm(IMAGE), IMAGE),
    "Permute": (lambda: linear.Permute([3, 0, 4, 1, 2]), VECTOR),
    "InvertibleLinear": (lambda: linear.InvertibleLinear(5), VECTOR),
    "InvertibleLinear, images": (lambda: linear.InvertibleLinear(2), IMAGE),
    "LULinear": (lambda: linear.LULinear(5), VECTOR),
    "LULinear, images": (lambda: linear.LULinear(2), IMAGE),
    "Coupling, additive": (lambda: coupled(False, coupling.additive), VECTOR),
    "Coupling, affine": (lambda: coupled(True, coupling.affine), VECTOR),
    "Coupling, channels": (
        lambda: coupling.Coupling(coupling.Halves(2), ConvNet(1, 2, width=6, cond=COND), coupling.sigmoid_affine),
        IMAGE,
    ),
    "Coupling, checkerboard": (
        lambda: coupling.Coupling(coupling.Checkerboard((4, 4)), Residual(2, 4, width=6, blocks=1, cond=COND)),
        IMAGE,
    ),
    "Chain, two couplings": (lambda: alternating(2, coupling.affine), VECTOR),
    "Chain, three couplings": (lambda: alternating(3, coupling.additive), VECTOR),
    "Autoregressive": (lambda: masked(16, 16), VECTOR),
    "Autoregressive, another order": (lambda: masked(7, order=torch.tensor([3, 0, 4, 1, 2])), VECTOR),
    "SplineCoupling": (lambda: splined(True), VECTOR),
    "SplineAutoregressive": (lambda: masked_spline(), VECTOR),
    "SplineAutoregressive, another order": (lambda: masked_spline(torch.tensor([3, 0, 4, 1, 2])), VECTOR),
    "MixtureAutoregressive": (mixed, VECTOR),
    "MixtureAutoregressive, another order": (lambda: mixed(torch.tensor([3, 0, 4, 1, 2])), VECTOR),
    "Squeeze": (images.Squeeze, IMAGE),
    "Flatten": (lambda: images.Flatten(IMAGE), IMAGE),
    "MultiScale": (multiscale, IMAGE),
    "Chain": (
        lambda: bijection.Chain([masked(16), coupled(False, coupling.affine), linear.InvertibleLinear(5)]),
        VECTOR,
    ),
    "Inverse": (lambda: bijection.Inverse(masked(16)), VECTOR),
}

STEERED = ("Coupling", "Autoregressive", "Spline", "Chain", "Inverse")


def made(name: str, dtype=torch.float64) -> tuple[Bijection, torch.Tensor, torch.Tensor]:
    """A bijection with none of its numbers at zero, points [6, *D] and conditions [6, COND]."""
    torch.manual_seed(0)
    build, shape = CASES[name]
    flow = build().to(dtype).eval()
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.3 * torch.randn_like(p))
        for b in (m for m in flow.modules() if isinstance(m, elementwise.BatchNorm)):
            b.mean.normal_()
            b.var.uniform_(0.5, 2.0)
    return flow, torch.randn(6, *shape, dtype=dtype), torch.randn(6, COND, dtype=dtype)


def test_every_bijection_has_a_case():
    modules = [importlib.import_module(f"{flows.__name__}.{m.name}") for m in pkgutil.iter_modules(flows.__path__)]
    found = {
        name
        for module in modules
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and issubclass(thing, Bijection) and thing is not Bijection
    }
    assert found == {name.partition(",")[0] for name in CASES}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_inverse_undoes_it_and_its_log_determinant(name):
    flow, x, cond = made(name)
    z, logdet = flow(x, cond)
    back, other = flow.inverse(z, cond)
    torch.testing.assert_close(back, x, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(other, -logdet, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_log_determinant_is_that_of_the_jacobian(name):
    flow, x, cond = made(name)
    _, logdet = flow(x, cond)
    for i in range(2):
        condition = cond[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda one, c=condition: flow(one[None], c).value, x[i])
        side = x[i].numel()
        exact = torch.linalg.slogdet(jacobian.reshape(side, side))[1]
        torch.testing.assert_close(logdet[i], exact, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_far_points_stay_finite_in_single_precision(name):
    flow, x, cond = made(name, torch.float32)
    z = flow(x, cond).value
    for far in (30, 30 if "Logit" in name else 1e4):
        for value, logdet in (flow(far * x.sign(), cond), flow.inverse(far * z.sign(), cond)):
            assert value.isfinite().all()
            assert logdet.isfinite().all()


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith(STEERED)])
@torch.no_grad()
def test_the_condition_steers(name):
    flow, x, cond = made(name)
    assert not torch.allclose(flow(x, cond).value, flow(x, cond + 1).value)


@pytest.mark.parametrize("name", CASES)
def test_it_is_traced_whole(name):
    flow, x, cond = made(name)
    torch._dynamo.reset()
    compiled = torch.compile(flow, backend="eager", fullgraph=True)
    for got, want in zip(compiled(x, cond), flow(x, cond), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_what_is_saved_is_all_there_is(name):
    flow, x, cond = made(name)
    torch.manual_seed(7)
    other = CASES[name][0]().double().eval()
    other.load_state_dict(flow.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(other(x, cond), flow(x, cond), strict=True))
