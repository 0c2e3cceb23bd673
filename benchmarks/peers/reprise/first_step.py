"""Seconds from starting `reprise train ddpm_digits --workers 2` to the end of its first optimiser step."""

import json
import time

import product


def main() -> None:
    """Measure, and print or record the result."""
    launched = time.time()
    process = product.start("train", "ddpm_digits", "--workers", "2")
    seen: dict = {}
    product.until(process, lambda: "first_step_at" in (seen.update(product.status()) or seen))
    print("\n" + json.dumps({"first_step_s": seen["first_step_at"] - launched}))


main()
