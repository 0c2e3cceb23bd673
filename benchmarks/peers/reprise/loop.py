"""Steps per second of `reprise train RECIPE`, from a quarter of the way to its last step."""

import argparse
import json

import product


def main() -> None:
    """Measure, and print or record the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, required=True)
    args = parser.parse_args()
    process = product.start("train", args.recipe, "--steps", str(args.steps))
    product.until(process, lambda: any(line["step"] >= args.steps for line in product.metrics()), every=0.2)
    first, *_, last = [line for line in product.metrics() if line["step"] >= args.steps // 4]
    rate = (last["step"] - first["step"]) / (last["time"] - first["time"])
    print("\n" + json.dumps({"steps_per_s": rate, "loss": last["loss"]}))


main()
