"""zuko's MAF and RealNVP at the sizes of `flow_work`; it has no Glow."""

import torch
import zuko
from flow_work import MAF, REALNVP, ROWS, SIZE, arguments, batch, emit, trainer


def model(work: str):
    """The flow of a piece of work."""
    if work == "realnvp_train":
        kind, size = zuko.flows.RealNVP, REALNVP
    else:
        kind, size = zuko.flows.MAF, MAF
    return kind(SIZE, transforms=size["depth"], hidden_features=(size["width"],) * 2)


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    made = model(args.work)
    if args.work == "maf_sample":
        with torch.no_grad():
            return emit(args.work, made, lambda: made().sample((ROWS,)), args.seconds)
    emit(args.work, made, trainer(made, lambda x: made().log_prob(x), batch(args.work)), args.seconds)


main()
