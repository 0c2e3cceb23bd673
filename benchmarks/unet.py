"""Our U-Net against diffusers' UNet2DModel and EDM's SongUNet of as many weights, on 3x32x32 images, with one thread.

Both are trained by the same DDPM loss and optimiser and sampled by the same sampler; only the network differs. The two
take turns within one run, and ratios are medians over the rounds. diffusers is also timed under bfloat16 autocast, for
those who would switch it on by hand. EDM's network takes part where its repository is given (NVlabs/edm, whose licence is
non-commercial); it has 7% more weights at the same widths. Needs the extra: pip install -e '.[bench-unet]'.

    python -m benchmarks.unet --rounds 5 --steps 400 --edm DIR
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.harness import machine, warn_if_busy
from datamodules.base import Share, table
from datamodules.readers.digits import Digits
from lightning_modules.conditions import Cond
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.draws import Draws
from lightning_modules.nets.unet import UNet
from lightning_modules.optim import Adam

LEVELS = schedules.linear()
RESULTS = Path(__file__).parent / "results" / "unet.json"


class Peer(nn.Module):
    """UNet2DModel behind the call of our networks: it is given the step's index."""

    def __init__(self, autocast: bool = False) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        down, attend = "DownBlock2D", "AttnDownBlock2D"
        up, attend_up = "UpBlock2D", "AttnUpBlock2D"
        self.autocast = autocast
        self.body = UNet2DModel(
            sample_size=32,
            layers_per_block=2,
            block_out_channels=(32, 64, 96),
            norm_num_groups=8,
            attention_head_dim=64,
            down_block_types=(down, attend, down),
            up_block_types=(up, attend_up, up),
        )
        self.register_buffer("logs", LEVELS.log().float())

    def forward(self, x: Tensor, level: Tensor, cond: Cond) -> Tensor:
        """diffusers' network at the log signal-to-noise ratios `level`."""
        index = (level[:, None] - self.logs).abs().argmin(1)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            return self.body(x, index).sample.to(x)


class Song(nn.Module):
    """EDM's SongUNet (DDPM++) behind the call of our networks: it is given log sigma / 4.

    Args:
        checkout: the folder of the repository NVlabs/edm.
    """

    def __init__(self, checkout: Path) -> None:
        super().__init__()
        sys.path.insert(0, str(checkout))
        from training.networks import SongUNet  # type: ignore[import-not-found]  # in the checkout

        self.body = SongUNet(32, 3, 3, model_channels=32, channel_mult=[1, 2, 3], num_blocks=2, dropout=0.0)

    def forward(self, x: Tensor, level: Tensor, cond: Cond) -> Tensor:
        """EDM's network at log sigma `level`."""
        return self.body(x, level / 4, None)


def ours(bf16: bool = True) -> UNet:
    """Our U-Net."""
    return UNet(3, width=32, multiples=(1, 2, 3), blocks=2, attention=(1,), head=64, bf16=bf16)


def images() -> tuple[Tensor, Tensor]:
    """Training and held-out digits, enlarged to [N, 3, 32, 32]."""
    data = Digits()
    held_out = data.test()["x"]
    return tuple(nn.functional.interpolate(x, size=32, mode="bilinear").expand(-1, 3, -1, -1).contiguous()
                 for x in (data.train["x"], held_out))  # fmt: skip


class Contestant:
    """One network in training.

    Args:
        net: of 3x32x32 images.
        level_input: what it is given about the noise level.
    """

    def __init__(self, net: nn.Module, level_input: Callable[[Tensor], Tensor] = torch.log) -> None:
        optim = Adam(1e-3, warmup=50)
        self.model = ddpm(net, (3, 32, 32), levels=LEVELS, optim=optim, clip=True, level_input=level_input)
        made = self.model.configure_optimizers()
        self.optimizer, self.schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]

    def step(self, x: Tensor, step: int) -> float:
        """Seconds of one training step on x [B, 3, 32, 32]."""
        began = time.perf_counter()
        self.model.draws = Draws(0, step)
        self.optimizer.zero_grad()
        self.model.losses({"x": x})["noise_mse"].backward()
        self.optimizer.step()
        self.schedule.step()
        return time.perf_counter() - began

    def sample(self, n: int, steps: int) -> float:
        """Seconds of drawing n images."""
        began = time.perf_counter()
        self.model.sample(n, steps=steps, batch=64, rng=torch.Generator().manual_seed(0))
        return time.perf_counter() - began

    @torch.no_grad()
    def error(self, x: Tensor) -> float:
        """Mean squared error of the noise on held-out images, over 4 noises of each, the same for every contestant."""
        self.model.eval()
        found = []
        for k in range(4):
            self.model.draws = Draws(1, k)
            found += [self.model.losses({"x": part})["noise_mse"].item() * len(part) for part in x.split(100)]
        self.model.train()
        return sum(found) / len(x) / 4


def take_turns(jobs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each job in each of the rounds, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            seconds = job()
            if turn:
                times[name].append(seconds)
    return times


def ratios(times: dict[str, list[float]], count: int) -> dict[str, float]:
    """Images per second of each, and how many times each peer's ours is: the median over rounds of paired times."""
    found = {f"{name} images/s": count / statistics.median(t) for name, t in times.items()}
    for name in times.keys() - {"ours"}:
        pairs = zip(times[name], times["ours"], strict=True)
        found[f"ours / {name}"] = statistics.median(a / b for a, b in pairs)
    return {k: round(v, 3) for k, v in sorted(found.items())}


class Record:
    """A results file that is rewritten after every measurement.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, where = path, machine()
        self.found: dict[str, object] = {"machine": where, "quiet": warn_if_busy(where)}

    def __call__(self, title: str, found: dict[str, float]) -> None:
        """Add a measurement, write and print."""
        self.found[title] = found
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(self.found, indent=1) + "\n")
        print(json.dumps({title: found}), flush=True)


def main(argv: list[str] | None = None) -> None:
    """Measure, and print or record the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each comparison")
    parser.add_argument("--steps", type=int, default=400, help="training steps before the errors are compared")
    parser.add_argument("--batch", type=int, default=32, help="images of a training step")
    parser.add_argument("--sampled", type=int, default=64, help="images of a sampling")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--edm", type=Path, help="checkout of NVlabs/edm")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    report = Record(options.out)
    all_of = {"ours": Contestant(ours()), "ours float32": Contestant(ours(False)), "diffusers": Contestant(Peer())}
    all_of["diffusers bf16"] = Contestant(Peer(True))
    if options.edm:
        all_of["EDM"] = Contestant(Song(options.edm))
    sizes = {name: sum(p.numel() for p in c.model.parameters()) for name, c in all_of.items()}
    assert max(sizes.values()) < 1.08 * min(sizes.values()), sizes
    train, held_out = images()
    share = Share(table(x=train), 0, options.batch, 1, 0, 1)
    report("weights", sizes)
    first = share[0]["x"]
    turns = take_turns({k: lambda c=c: c.step(first, 0) for k, c in all_of.items()}, 2 * options.rounds)
    report("training", ratios(turns, options.batch))
    n = options.sampled
    turns = take_turns({k: lambda c=c: c.sample(n, 50) for k, c in all_of.items()}, options.rounds)
    report(f"50-step sampling of {n}", ratios(turns, n))
    for name, build in (("ours", ours), ("diffusers", Peer)):
        torch.manual_seed(0)
        fresh = Contestant(build())
        seconds = sum(fresh.step(share[k]["x"], k) for k in range(options.steps))
        report(f"{name} after {options.steps} steps", {"noise_mse": fresh.error(held_out), "seconds": seconds})


if __name__ == "__main__":
    main()
