"""Images per second of `reprise train RECIPE --workers N`, between the first and the last of some lines of metrics."""

import argparse
import json

import product


def main() -> None:
    """Measure, and print or record the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--workers", default="1")
    parser.add_argument("--batch", type=int, required=True, help="global batch")
    parser.add_argument("--lines", type=int, default=8)
    args = parser.parse_args()
    process = product.start("train", args.recipe, "--workers", args.workers, "--batch", str(args.batch))
    product.until(process, lambda: len(product.metrics()) >= args.lines, every=0.2)
    first, *_, last = product.metrics()
    steps, seconds = last["step"] - first["step"], last["time"] - first["time"]
    print("\n" + json.dumps({"images_per_s": steps * args.batch / seconds, "loss": last["loss"]}))


main()
