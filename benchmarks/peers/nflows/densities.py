"""nflows's MAF, RealNVP and spline flows at the sizes of `density_work`, with its ActNorms and LU layers between couplings."""

import torch
from density_work import BINS, BOUND, DEPTH, SPLINE_DEPTH, WIDTH, arguments, fit
from nflows import transforms as t
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.nn.nets import MLP


class Net(MLP):
    """Its multilayer perceptron, that takes the context which its couplings pass."""

    def forward(self, inputs: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """The network without a context, as nflows calls it."""
        return super().forward(inputs)


def net(a: int, b: int) -> Net:
    """A residual-free network of two hidden layers from a to b features."""
    return Net([a], [b], [WIDTH, WIDTH])


def parts(work: str, size: int) -> list[t.Transform]:
    """The layers from the data on."""
    masked = {"num_blocks": 1, "use_residual_blocks": False}
    spline = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}
    found: list[t.Transform] = []
    for i in range(DEPTH if work in ("maf", "realnvp") else SPLINE_DEPTH):
        mask = torch.arange(size) % 2 == i % 2
        if work == "maf":
            found += [t.MaskedAffineAutoregressiveTransform(size, WIDTH, **masked), t.ReversePermutation(size)]
        elif work == "nsf_autoregressive":
            by_turn = t.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(size, WIDTH, **masked, **spline)
            found += [t.ActNorm(size), by_turn, t.ReversePermutation(size)]
        else:
            coupled = (
                t.AffineCouplingTransform(mask, net)
                if work == "realnvp"
                else t.PiecewiseRationalQuadraticCouplingTransform(mask, net, **spline)
            )
            found += [t.ActNorm(size), t.LULinear(size, identity_init=True), coupled]
    return found


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    model = Flow(t.CompositeTransform(parts(args.work, args.truth.size)), StandardNormal([args.truth.size]))
    fit(model, model.log_prob, args)


main()
