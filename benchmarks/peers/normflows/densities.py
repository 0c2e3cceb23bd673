"""normflows's RealNVP and spline couplings at the sizes of `density_work`, with its own ActNorms and LU layers between them."""

import normflows as nf
from density_work import BINS, BOUND, DEPTH, SPLINE_DEPTH, WIDTH, arguments, fit


def coupled(size: int, i: int) -> list[nf.flows.Flow]:
    """From the noise on."""
    a, b = size - size // 2, size // 2
    known, moved, way = (a, b, "channel") if i % 2 == 0 else (b, a, "channel_inv")
    net = nf.nets.MLP([known, WIDTH, WIDTH, 2 * moved], init_zeros=True)
    return [nf.flows.AffineCouplingBlock(net, split_mode=way), nf.flows.LULinearPermute(size), nf.flows.ActNorm(size)]


def splined(size: int, i: int) -> list[nf.flows.Flow]:
    """A coupling layer of splines, a linear map and ActNorm."""
    bend = nf.flows.CoupledRationalQuadraticSpline(
        size, 1, WIDTH, num_bins=BINS, tail_bound=BOUND, reverse_mask=i % 2 == 1
    )
    return [bend, nf.flows.LULinearPermute(size), nf.flows.ActNorm(size)]


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    size = args.truth.size
    make, depth = (coupled, DEPTH) if args.work == "realnvp" else (splined, SPLINE_DEPTH)
    flows = [flow for i in range(depth) for flow in make(size, i)]
    model = nf.NormalizingFlow(nf.distributions.DiagGaussian(size, trainable=False), flows)
    fit(model, model.log_prob, args)


main()
