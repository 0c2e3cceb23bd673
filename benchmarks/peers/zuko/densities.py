"""zuko's MAF, RealNVP and autoregressive spline flow at the sizes of `density_work`; its spline flow has no coupling."""

import zuko
from density_work import BINS, DEPTH, SPLINE_DEPTH, WIDTH, arguments, fit


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    size, hidden = args.truth.size, (WIDTH, WIDTH)
    if args.work == "nsf_autoregressive":
        model = zuko.flows.NSF(size, transforms=SPLINE_DEPTH, hidden_features=hidden, bins=BINS)
    else:
        kind = zuko.flows.MAF if args.work == "maf" else zuko.flows.RealNVP
        model = kind(size, transforms=DEPTH, hidden_features=hidden)
    fit(model, lambda x: model().log_prob(x), args)


main()
