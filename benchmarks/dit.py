"""Our DiT against diffusers' DiTTransformer2DModel with the same weights, on 3x32x32 images, with one thread.

Both start from the same weights, which are carried over by `lightning_modules.exchange`, and give the same output before anything
is timed. Both are trained by the same DDPM loss and optimiser and sampled by the same sampler, without labels. Every block of
diffusers embeds the level with a copy of the embedding of its own, which is part of what is measured. Needs the extra:
pip install -e '.[bench-unet]'.

    python -m benchmarks.dit --rounds 5
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.unet import LEVELS, Contestant, Record, images, ratios, take_turns
from datamodules.base import Share, table
from lightning_modules.conditions import Cond
from lightning_modules.diffusion import schedules
from lightning_modules.exchange import dit, layers
from lightning_modules.nets.dit import DiT, Size
from lightning_modules.nets.embed import index_waves

RESULTS = Path(__file__).parent / "results" / "dit.json"
INDEX = partial(schedules.index_of, levels=LEVELS)


class Peer(nn.Module):
    """DiTTransformer2DModel behind the call of our networks.

    Args:
        net: ours, of which it is a copy.
        autocast: whether it computes in bfloat16.
    """

    def __init__(self, net: DiT, autocast: bool = False) -> None:
        super().__init__()
        from diffusers import DiTTransformer2DModel

        self.autocast = autocast
        self.body = DiTTransformer2DModel(**dit.config_of(net, (3, 32, 32)))
        self.body.load_state_dict(layers.exported(dit.entries_of(net), net.state_dict()) | dit.tables(net))

    def forward(self, x: Tensor, level: Tensor, cond: Cond) -> Tensor:
        """diffusers' network at the indices `level` of noise levels."""
        label = torch.zeros(len(x), dtype=torch.long, device=x.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            return self.body(x, level, class_labels=label).sample.to(x)


def ours(size: Size, patch: int, bf16: bool) -> DiT:
    """Our DiT, given the index of the level as diffusers' is; its weights are not zero, so that outputs can be compared."""
    torch.manual_seed(0)
    net = DiT(3, size, patch=patch, bf16=bf16, features=partial(index_waves, dim=256, shift=1))
    for p in net.parameters():
        nn.init.normal_(p, std=0.02)
    return net


def contestants(size: Size, patch: int) -> dict[str, Contestant]:
    """The networks in training: ours and diffusers', each in float32 and in bfloat16."""
    found = {"ours": ours(size, patch, True), "ours float32": ours(size, patch, False)}
    plain = found["ours float32"]
    nets: dict[str, nn.Module] = {**found, "diffusers": Peer(plain), "diffusers bf16": Peer(plain, True)}
    return {name: Contestant(net, INDEX) for name, net in nets.items()}


@torch.no_grad()
def differences(all_of: dict[str, Contestant], x: Tensor) -> dict[str, float]:
    """The largest difference of each network's output from that of ours in float32, in units of its standard deviation."""
    level = torch.linspace(0, 999, len(x)).round()
    outputs = {name: c.model.eval().net(x, level, Cond()) for name, c in all_of.items()}
    for c in all_of.values():
        c.model.train()
    truth = outputs["ours float32"]
    return {name: ((out - truth).abs().max() / truth.std()).item() for name, out in outputs.items()}


def main(argv: list[str] | None = None) -> None:
    """Measure, and print and record the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each comparison")
    parser.add_argument("--batch", type=int, default=32, help="images of a training step")
    parser.add_argument("--sampled", type=int, default=64, help="images of a sampling")
    parser.add_argument("--width", type=int, default=384, help="features of a row; the head has 64")
    parser.add_argument("--depth", type=int, default=6, help="blocks")
    parser.add_argument("--patch", type=int, default=4, help="side of a patch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    size = Size(options.width, options.depth, max(1, options.width // 64))
    report, all_of = Record(options.out), contestants(size, options.patch)
    report("weights", {name: sum(p.numel() for p in c.model.parameters()) for name, c in all_of.items()})
    train, _ = images()
    share = Share(table(x=train), 0, options.batch, 1, 0, 1)
    first, n = share[0]["x"], options.sampled
    found = differences(all_of, first)
    assert found["diffusers"] < 1e-4, found
    report("difference of outputs", found)
    turns = take_turns({k: lambda c=c: c.step(first, 0) for k, c in all_of.items()}, 2 * options.rounds)
    report("training", ratios(turns, options.batch))
    turns = take_turns({k: lambda c=c: c.sample(n, 50) for k, c in all_of.items()}, options.rounds)
    report(f"50-step sampling of {n}", ratios(turns, n))


if __name__ == "__main__":
    main()
