"""Training of DDPM's CIFAR U-Net and of DiT-B/2 on one GPU: images/s, and the share of the GPU's peak that is used.

The data are random and on the device: images 3x32x32 for the U-Net, latents 4x32x32 for DiT, as a first stage would have cached them.
A step is the loss, its gradient and the optimiser. Work is what torch counts in products and convolutions of one step, forward and
back (`torch.utils.flop_counter`), not a formula. MFU is work over time over the data sheet's peak for dense bfloat16, given by --peak for
a GPU that is not in PEAKS. Contenders add one option after another: float32 (products in TF32), bfloat16, channels_last (the U-Net),
torch.compile of the network.

    python -m benchmarks.gpu --batch 256 --steps 50
    python -m benchmarks.gpu --device cpu --tiny                 the same code at a tiny size, to see that it runs
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.unet import Record
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.denoising import Denoising
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.draws import Draws
from lightning_modules.nets.dit import SIZES, DiT, Size
from lightning_modules.nets.unet import UNet
from lightning_modules.optim import Adam

RESULTS = Path(__file__).parent / "results" / "gpu.json"
PEAKS = {"H200": 989e12, "H100": 989e12, "H800": 989e12, "A100": 312e12, "A800": 312e12}
"""Dense bfloat16 operations a second, by a part of the GPU's name: NVIDIA's data sheets of the SXM modules."""
NO_GPU = "There is no GPU here: run this on a machine with one, or with --device cpu --tiny to see that it runs."


@dataclass(frozen=True)
class Contender:
    """One way to train one network."""

    net: str
    """unet or dit."""
    bf16: bool = False
    channels_last: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        options = {"bf16": self.bf16, "channels_last": self.channels_last, "compile": self.compiled}
        return ", ".join(name for name, on in options.items() if on) or "float32"


CONTENDERS = [
    Contender(net, bf16, last, compiled)
    for net in ("unet", "dit")
    for bf16, last, compiled in (
        (False, False, False), (True, False, False), (True, True, False), (True, False, True), (True, True, True),
    )
    if net == "unet" or not last
]  # fmt: skip


def build(of: Contender, tiny: bool) -> tuple[nn.Module, tuple[int, ...]]:
    """The network at the paper's scale, or a tiny one, and the shape of an example."""
    if of.net == "dit":
        size = Size(32, 1, 2) if tiny else SIZES["B"]
        return DiT(4, size, patch=2, bf16=of.bf16), (4, 8 if tiny else 32, 8 if tiny else 32)
    width, multiples, blocks = (8, (1, 2), 1) if tiny else (128, (1, 2, 2, 2), 2)
    net = UNet(
        3, width=width, multiples=multiples, blocks=blocks, attention=(1,), head=2 * width, dropout=0.1, bf16=of.bf16
    )
    return net, (3, 8 if tiny else 32, 8 if tiny else 32)


def trained(of: Contender, tiny: bool, device: str) -> Denoising:
    """The model with its network on the device, in the contender's memory format."""
    torch.manual_seed(0)
    net, shape = build(of, tiny)
    form = torch.channels_last if of.channels_last else torch.contiguous_format
    net = net.to(device, memory_format=form)  # type: ignore[call-overload]  # torch's stub leaves it out
    if of.compiled:
        net.compile()
    return ddpm(net, shape, levels=schedules.linear(), optim=Adam(2e-4))


def stepper(model: Denoising, x: Tensor) -> Callable[[int], None]:
    """The function of one training step on x [B, *D]."""
    optimizer = model.configure_optimizers()
    optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer

    def step(k: int) -> None:
        model.draws = Draws(0, k)
        optimizer.zero_grad()
        model.losses({"x": x})["noise_mse"].backward()
        optimizer.step()

    return step


def work(of: Contender, tiny: bool, device: str, batch: int = 2) -> float:
    """Floating-point operations of one step for one image; counted in float32 and not compiled, since torch counts no fused kernels."""
    plain = Contender(of.net)
    model = trained(plain, tiny, device)
    step, counter = stepper(model, examples(model, batch, device)), FlopCounterMode(display=False)
    with counter:
        step(0)
    return counter.get_total_flops() / batch


def examples(model: Denoising, batch: int, device: str) -> Tensor:
    """Random examples [batch, *D] on the device."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(batch, *model.shape, generator=rng).mul(2).sub(1).to(device)


def seconds(step: Callable[[int], None], steps: int, rounds: int, device: str) -> float:
    """Median over the rounds of the time of one step, after steps that warm up."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    for k in range(5):
        step(k)
    found = []
    for _ in range(rounds):
        wait()
        began = time.perf_counter()
        for k in range(steps):
            step(k)
        wait()
        found.append((time.perf_counter() - began) / steps)
    return statistics.median(found)


def peak(name: str, given: float) -> float:
    """Dense bfloat16 operations a second of a device; 0 where they are not known."""
    return given or next((most for part, most in PEAKS.items() if part in name), 0.0)


def measured(of: Contender, options: argparse.Namespace, most: float) -> dict[str, float]:
    """Images a second, work of an image in GFLOP, MFU in percent where the peak is known, and memory in GB on a GPU."""
    device = options.device
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    model = trained(of, options.tiny, device)
    x = examples(model, options.batch, device)
    if of.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    rate = options.batch / seconds(stepper(model, x), options.steps, options.rounds, device)
    flops = work(of, options.tiny, device)
    found = {"images/s": round(rate, 2), "GFLOP of an image": round(flops / 1e9, 3)}
    found |= {"MFU %": round(100 * rate * flops / most, 2)} if most else {}
    return found | ({"GB": round(torch.cuda.max_memory_allocated() / 1e9, 2)} if cuda else {})


def main(argv: list[str] | None = None) -> int:
    """Measure, and print and record the result; 1 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256, help="images of a step")
    parser.add_argument("--steps", type=int, default=50, help="steps of a timed round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peak", type=float, default=0.0, help="dense bfloat16 operations a second of the GPU")
    parser.add_argument("--tiny", action="store_true", help="networks of a tiny size")
    parser.add_argument("--only", default="", help="contenders whose name holds this, such as 'dit'")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    options = parser.parse_args(argv)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 1
    if options.device.startswith("cuda"):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    name = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device
    report, most = Record(options.out), peak(name, options.peak)
    report.found["device"] = name
    for of in CONTENDERS:
        if options.only in (title := f"{of.net}: {of}"):
            report(title, measured(of, options, most))
    return 0


if __name__ == "__main__":
    sys.exit(main())
