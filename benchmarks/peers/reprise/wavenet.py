"""Our WaveNet: samples per second of its generation from rings."""

import time

import torch
from workloads import wavenet_arguments, wavenet_emit

from lightning_modules.autoregressive.wavenet import WaveNet


def main() -> None:
    """Measure, and print or record the result."""
    args = wavenet_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    net = WaveNet(args.samples, layers=args.layers, stacks=args.stacks, residual=args.residual, skip=args.skip)
    net.sample(args.waves, length=20)
    started = time.perf_counter()
    net.sample(args.waves)
    wavenet_emit(args, time.perf_counter() - started)


main()
