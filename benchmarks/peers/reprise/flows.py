"""Our MAF, RealNVP and Glow at the sizes of `flow_work`."""

import torch
from flow_work import GLOW, MAF, REALNVP, ROWS, SIZE, arguments, batch, emit, trainer

from lightning_modules.flows import glow, maf, realnvp
from ray_jobs.run.memory import keep_freed


def model(work: str):
    """The flow of a piece of work."""
    if work == "glow_train":
        shape, more = GLOW["shape"], {k: GLOW[k] for k in ("steps", "scales", "width")}
        return glow.Glow(shape, **more)
    if work == "realnvp_train":
        return realnvp.RealNVP((SIZE,), **REALNVP)
    return maf.MAF((SIZE,), depth=MAF["depth"], hidden=(MAF["width"],) * 2)


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    keep_freed()  # as `reprise train` does
    made = model(args.work)
    if args.work == "maf_sample":
        rng = torch.Generator().manual_seed(args.seed)
        return emit(args.work, made, lambda: made.sample(ROWS, rng=rng), args.seconds)
    x = batch(args.work)
    made.fit_norms({"x": x})
    emit(args.work, made, trainer(made, lambda x: made.density(x, None), x), args.seconds)


main()
