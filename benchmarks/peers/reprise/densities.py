"""Our MAF, RealNVP and spline flows at the sizes of `density_work`."""

import torch
from density_work import BATCH, BINS, BOUND, DEPTH, SPLINE_DEPTH, WIDTH, arguments, fit

from lightning_modules.flows import maf, nsf, realnvp


def main() -> None:
    args = arguments()
    shape = (args.truth.size,)
    if args.work == "maf":
        model = maf.MAF(shape, depth=DEPTH, hidden=(WIDTH, WIDTH))
    elif args.work == "realnvp":
        model = realnvp.RealNVP(shape, depth=DEPTH, width=WIDTH)
    else:
        by_turn = args.work == "nsf_autoregressive"
        model = nsf.NSF(shape, depth=SPLINE_DEPTH, width=WIDTH, bins=BINS, bound=BOUND, autoregressive=by_turn)
    model.fit_norms({"x": args.truth.draw(BATCH, torch.Generator().manual_seed(args.seed)).float()})
    fit(model, lambda x: model.density(x, None), args)


main()
