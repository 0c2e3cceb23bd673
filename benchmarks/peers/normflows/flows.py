"""normflows's RealNVP and Glow at the sizes of `flow_work`."""

import normflows as nf
import torch
from flow_work import GLOW, REALNVP, SIZE, arguments, batch, emit, trainer


def glow() -> nf.MultiscaleFlow:
    """As its documentation builds Glow, without classes."""
    channels, side, _ = GLOW["shape"]
    scales, bases, merges, flows = GLOW["scales"], [], [], []
    for i in range(scales):
        at = channels * 2 ** (scales + 1 - i)
        blocks = [nf.flows.GlowBlock(at, GLOW["width"], split_mode="channel", scale=True) for _ in range(GLOW["steps"])]
        flows.append([*blocks, nf.flows.Squeeze()])
        if i:
            merges.append(nf.flows.Merge())
            shape = (channels * 2 ** (scales - i), side // 2 ** (scales - i), side // 2 ** (scales - i))
        else:
            shape = (channels * 2 ** (scales + 1), side // 2**scales, side // 2**scales)
        bases.append(nf.distributions.DiagGaussian(shape))
    return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)


def model(work: str):
    """The flow of a piece of work."""
    if work == "glow_train":
        return glow()
    flows, known, moved = [], SIZE - SIZE // 2, SIZE // 2
    for i in range(REALNVP["depth"]):
        a, b = (known, moved) if i % 2 == 0 else (moved, known)
        net = nf.nets.MLP([a, REALNVP["width"], REALNVP["width"], 2 * b], init_zeros=True)
        flows.append(nf.flows.AffineCouplingBlock(net, split_mode="channel" if i % 2 == 0 else "channel_inv"))
    return nf.NormalizingFlow(nf.distributions.DiagGaussian(SIZE, trainable=False), flows)


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    made, x = model(args.work), batch(args.work)

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        return made.log_prob(x, None) if args.work == "glow_train" else made.log_prob(x)

    with torch.no_grad():
        log_prob(x)  # its ActNorm sets itself
    emit(args.work, made, trainer(made, log_prob, x), args.seconds)


main()
