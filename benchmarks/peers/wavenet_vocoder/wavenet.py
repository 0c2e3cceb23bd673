"""r9y9's WaveNet: samples per second of its generation with buffers, one wave at a time (it draws for the first of a batch only)."""

import time

import torch
from wavenet_vocoder.wavenet import WaveNet
from workloads import wavenet_arguments, wavenet_emit


def main() -> None:
    """Measure, and print or record the result."""
    args = wavenet_arguments()
    if args.waves != 1:
        raise SystemExit("it generates one wave at a time")
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    net = WaveNet(
        out_channels=256,
        layers=args.layers,
        stacks=args.stacks,
        residual_channels=args.residual,
        gate_channels=2 * args.residual,  # halved by the gate
        skip_out_channels=args.skip,
        kernel_size=2,
        dropout=0.0,
        legacy=False,
    ).eval()
    net.make_generation_fast_()
    with torch.no_grad():
        net.incremental_forward(T=20)
        started = time.perf_counter()
        net.incremental_forward(T=args.samples)
    wavenet_emit(args, time.perf_counter() - started)


main()
