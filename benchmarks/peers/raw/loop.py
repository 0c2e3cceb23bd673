"""A recipe's model, batches, optimiser, clipping and average in the plainest loop that torch allows: steps per second.

It neither looks for NaN nor logs, saves, shows or stops, and its noise could not be resumed.
"""

import argparse
import json
import time

import torch

from ray_jobs.recipe.settings import build


def main() -> None:
    """Measure, and print or record the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = build(args.recipe, {})
    model, data = made.model.train(), made.data
    data.setup("fit")
    found = model.configure_optimizers()
    adam, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    weights = list(model.parameters())
    average = [p.detach().clone() for p in weights]
    if hasattr(model, "fit_norms"):
        model.fit_norms(data.source.rows(0, 0, data.batch, 0, data.batch))

    warm = args.steps // 4
    for step in range(args.steps):
        if step == warm:
            started = time.perf_counter()
        batch = data.source.rows(0, step, data.batch, 0, data.batch)
        loss = sum(model.losses(batch).values())
        adam.zero_grad(set_to_none=True)
        loss.backward()
        if made.grad_clip:
            torch.nn.utils.clip_grad_norm_(weights, made.grad_clip)
        adam.step()
        schedule.step()
        if made.ema:
            with torch.no_grad():
                torch._foreach_lerp_(average, weights, 1 - made.ema)
    rate = (args.steps - warm) / (time.perf_counter() - started)
    print("\n" + json.dumps({"steps_per_s": rate, "loss": loss.item()}))


main()
