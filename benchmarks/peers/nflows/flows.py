"""nflows's MAF and RealNVP at the sizes of `flow_work`; its Glow has no single form."""

import torch
from flow_work import MAF, REALNVP, ROWS, SIZE, arguments, batch, emit, trainer
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.nn.nets import MLP
from nflows.transforms import (
    AffineCouplingTransform,
    CompositeTransform,
    MaskedAffineAutoregressiveTransform,
    ReversePermutation,
)


def masked() -> MaskedAffineAutoregressiveTransform:
    """Its `num_blocks` are the hidden layers after the first."""
    return MaskedAffineAutoregressiveTransform(SIZE, MAF["width"], num_blocks=1, use_residual_blocks=False)


class Net(MLP):
    """Its multilayer perceptron, that takes the context which its couplings pass."""

    def forward(self, inputs: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """The network without a context, as nflows calls it."""
        return super().forward(inputs)


def coupled(i: int) -> AffineCouplingTransform:
    """A coupling layer of every other dimension."""
    mask = torch.arange(SIZE) % 2 == i % 2
    return AffineCouplingTransform(mask, lambda a, b: Net([a], [b], [REALNVP["width"]] * 2))


def model(work: str) -> Flow:
    """The flow of a piece of work."""
    if work == "realnvp_train":
        parts = [coupled(i) for i in range(REALNVP["depth"])]
    else:
        parts = [part for _ in range(MAF["depth"]) for part in (masked(), ReversePermutation(SIZE))]
    return Flow(CompositeTransform(parts), StandardNormal([SIZE]))


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    made = model(args.work)
    if args.work == "maf_sample":
        with torch.no_grad():
            return emit(args.work, made, lambda: made.sample(ROWS), args.seconds)
    emit(args.work, made, trainer(made, made.log_prob, batch(args.work)), args.seconds)


main()
