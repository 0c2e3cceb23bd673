"""Our PixelCNN: seconds of drawing some images, from what is kept of earlier pixels or by a whole pass for each pixel.

All whole passes take the same time: `--passes` of them are timed, and the time is scaled to the number of pixels.
"""

import argparse
import json
import time

import torch

from lightning_modules.autoregressive.pixelcnn import PixelCNN


def main() -> None:
    """Measure, and print or record the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--depth", type=int, default=7)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--passes", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = PixelCNN((1, args.side, args.side), depth=args.depth, width=args.width, head=64)
    if args.naive:
        x = torch.zeros(args.images, 1, args.side, args.side)
        with torch.inference_mode():
            net.logits(x)
            started = time.perf_counter()
            for _ in range(args.passes):
                net.logits(x)
        seconds = (time.perf_counter() - started) / args.passes * args.side**2
    else:
        net.sample(2)
        started = time.perf_counter()
        net.sample(args.images)
        seconds = time.perf_counter() - started
    print("\n" + json.dumps({"images_per_s": args.images / seconds, "seconds": seconds}))


main()
