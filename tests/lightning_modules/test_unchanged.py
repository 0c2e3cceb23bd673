"""Drawing, scoring and losses leave the weights and the caller's tensors as they are, at the smallest sizes too.

There views are made where copies were meant: `expand(...).contiguous()`, `reshape` or `to` return the tensor itself.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.autoregressive.diagonal_bilstm import DiagonalBiLSTM
from lightning_modules.autoregressive.made import MADE
from lightning_modules.autoregressive.pixelcnn import PixelCNN
from lightning_modules.autoregressive.row_lstm import RowLSTM
from lightning_modules.autoregressive.wavenet import WaveNet
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.glow import Glow
from lightning_modules.flows.iaf import IAF
from lightning_modules.flows.maf import MAF
from lightning_modules.flows.nice import NICE
from lightning_modules.flows.nsf import NSF
from lightning_modules.flows.realnvp import RealNVP
from lightning_modules.gan.gan import GAN
from lightning_modules.model import Generative
from lightning_modules.nets.adversarial import dense_discriminator, dense_generator
from lightning_modules.nets.conditioned import MLP
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.nets.unet import UNet
from lightning_modules.vae.flow_prior import FlowPriorVAE
from lightning_modules.vae.iaf_vae import IAFVAE
from lightning_modules.vae.likelihood import Bernoulli, DiscretisedLogistic, Gaussian
from lightning_modules.vae.linear import linear_vae
from lightning_modules.vae.resnet_vae import ResNetVAE
from lightning_modules.vae.vae import VAE

TABLE = torch.logspace(-2, 1, 6)
PIXELS = {"depth": 1, "width": 1, "head": 1, "levels": 2}


def vae(kind: Callable[..., VAE], likelihood: Any, size: int = 1, **more: Any) -> VAE:
    extra = more.pop("encoded", 0)
    return kind(MLP(size, 2 + extra, width=1), MLP(1, size, width=1), likelihood, (size,), 1, **more)


MODELS: dict[str, Callable[[], Generative]] = {
    "pixelcnn of one column": lambda: PixelCNN((1, 3, 1), **PIXELS),
    "pixelcnn of one row": lambda: PixelCNN((1, 1, 3), **PIXELS),
    "pixelcnn of one pixel": lambda: PixelCNN((1, 1, 1), **PIXELS),
    "row lstm of one column": lambda: RowLSTM((1, 3, 1), **PIXELS),
    "row lstm of one pixel": lambda: RowLSTM((1, 1, 1), **PIXELS),
    "diagonal bilstm of one column": lambda: DiagonalBiLSTM((1, 3, 1), **PIXELS),
    "diagonal bilstm of one row": lambda: DiagonalBiLSTM((1, 1, 3), **PIXELS),
    "diagonal bilstm of one pixel": lambda: DiagonalBiLSTM((1, 1, 1), **PIXELS),
    "wavenet of one sample": lambda: WaveNet(1, levels=2, layers=1, stacks=1, residual=1, skip=1),
    "wavenet": lambda: WaveNet(5, levels=2, layers=2, stacks=1, residual=1, skip=1, classes=2),
    "made of one bit": lambda: MADE((1,), hidden=(1,)),
    "made of orders": lambda: MADE((2,), hidden=(1,), orders=3, classes=1),
    "maf of one number": lambda: MAF((1,), depth=1, hidden=(1,), norm=True, components=1),
    "maf": lambda: MAF((2,), depth=2, hidden=(1,), classes=2),
    "iaf of one number": lambda: IAF((1,), depth=1, hidden=(1,)),
    "nice": lambda: NICE((2,), couplings=1, width=1, depth=1),
    "nsf": lambda: NSF((2,), depth=1, width=1, bins=2),
    "nsf, autoregressive": lambda: NSF((1,), depth=1, width=1, bins=2, autoregressive=True),
    "realnvp of vectors": lambda: RealNVP((2,), depth=1, width=1),
    "realnvp of images": lambda: RealNVP((1, 2, 2), depth=1, width=1, scales=1, levels=2, dequantiser=1),
    "glow": lambda: Glow((1, 2, 2), steps=1, scales=1, width=1, levels=2, dequantiser=1),
    "glow without lu": lambda: Glow((1, 2, 2), steps=1, scales=1, width=1, lu=False),
    "vae": lambda: vae(VAE, Gaussian()),
    "vae of bits": lambda: vae(VAE, Bernoulli()),
    "vae of levels": lambda: vae(VAE, DiscretisedLogistic(2)),
    "linear vae": lambda: linear_vae((1,), 1),
    "iaf vae": lambda: vae(IAFVAE, Gaussian(), encoded=1, context=1, depth=1, hidden=(1,)),
    "flow prior vae": lambda: vae(FlowPriorVAE, Gaussian(), depth=1, hidden=(1,)),
    "resnet vae": lambda: ResNetVAE((1, 2, 2), scales=1, blocks=1, width=1, size=1, levels=2),
    "ddpm of vectors": lambda: ddpm(ResidualMLP((1,), width=2, depth=1), (1,), levels=TABLE),
    "ddpm of images": lambda: ddpm(UNet(1, width=4, multiples=(1,), blocks=1), (1, 1, 1), levels=TABLE, clip=True),
    "gan": lambda: GAN(dense_generator(1, (1,), width=1, depth=1), dense_discriminator((1,), width=1, depth=1), 1),
}


@contextmanager
def unchanged(model: nn.Module, *given: Tensor) -> Iterator[None]:
    """Check that the weights and these tensors keep their values inside."""
    held: dict[str, Tensor] = dict(model.named_parameters()) | {f"argument {i}": x for i, x in enumerate(given)}
    before = {k: x.detach().clone() for k, x in held.items()}
    yield
    changed = [k for k, x in held.items() if not torch.equal(x.detach(), before[k])]
    assert not changed, changed


def labels(model: Generative, n: int) -> Tensor | None:
    classes = getattr(model, "classes", 0)
    return torch.arange(n) % classes if classes else None


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("what", MODELS)
def test_weights_and_arguments_stay(what, n, seeded):
    model = MODELS[what]()
    for p in model.parameters():  # zero weights would hide what is added to them
        nn.init.normal_(p, std=0.3)
    label = labels(model, n)
    given = [label] if label is not None else []
    options = {"cond": label} if given else {}
    with unchanged(model, *given):
        x = model.sample(n, **options).clone()  # type: ignore[operator]
    assert x.shape == (n, *model.shape) if model.shape else len(x) == n
    if hasattr(model, "log_prob"):
        with unchanged(model, x, *given):
            model.log_prob(x, *given)
    if not isinstance(model, GAN):
        with unchanged(model, x, *given):
            loss = sum(model.losses({"x": x} | ({"label": label} if given else {})).values())
            if n > 1 or not any(isinstance(m, nn.BatchNorm1d) for m in model.modules()):
                loss.backward()  # type: ignore[union-attr]
    if hasattr(model, "encode") and isinstance(model, VAE) and not isinstance(model, ResNetVAE):
        with unchanged(model, x):
            model.decode(model.encode(x))


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    """Inside, new tensors have this type, as in Lightning's training with weights of 16 bits."""
    was = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(was)


@pytest.mark.parametrize("what", MODELS)
def test_weights_of_16_bits_train_score_and_draw(what, seeded):
    """As with `--precision bf16-true`."""
    model = MODELS[what]()
    x, label = model.sample(4).clone().bfloat16(), labels(model, 4)
    given = [label] if label is not None else []
    model = model.to(torch.bfloat16)
    with default(torch.bfloat16):
        if not isinstance(model, GAN):
            batch = {"x": x} | ({"label": label} if given else {})
            if isinstance(model, Flow):
                model.fit_norms(batch)
            loss = sum(model.losses(batch).values())
            loss.backward()  # type: ignore[union-attr]
            assert loss.isfinite()  # type: ignore[union-attr]
        if hasattr(model, "log_prob"):
            assert model.log_prob(x, *given).isfinite().all()
        assert model.sample(4, *given).isfinite().all()  # type: ignore[operator]


def test_a_flow_that_is_nothing_returns_a_tensor_of_its_own(seeded):
    """`Flow` of no bijection at all: its answers may not be the caller's tensor."""
    from lightning_modules.flows.bijection import Chain

    model, x = Flow(Chain([]), (2,)), torch.randn(1, 2)
    with unchanged(model, x):
        model.log_prob(x)
        model.sample(1)
