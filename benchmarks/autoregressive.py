"""Samples of autoregressive models: WaveNet against r9y9's, and PixelCNN against the naive sampler; one thread each.

WaveNet has 24 layers in 4 stacks, 64 residual features (gates of 128), 256 skip features, kernels of 2 and 256 levels. The peer
generates one wave at a time; ours is also measured with 64 at once, against the peer's one. PixelCNN draws 16 grey images of 32x32
in 256 levels, with 7 blocks of 64 features (h = 32).

    python -m benchmarks.autoregressive --rounds 3
"""

from __future__ import annotations

from benchmarks.harness import Contender, Report, Row, arguments, interpreter, measure

WAVES = {
    "Reprise, 1 wave": Contender("Reprise, 1 wave", "reprise", "wavenet.py", ("--samples", "2000")),
    "Reprise, 64 waves": Contender("Reprise, 64 waves", "reprise", "wavenet.py", ("--waves", "64", "--samples", "500")),
    "r9y9, 1 wave": Contender("r9y9, 1 wave", "wavenet_vocoder", "wavenet.py", ("--samples", "500")),
}
IMAGES = {
    "kept": Contender("kept", "reprise", "pixelcnn.py"),
    "naive": Contender("naive", "reprise", "pixelcnn.py", ("--naive",)),
}


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=3)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one measurement (default %(default)s)")
    args = parser.parse_args()
    interpreter("wavenet_vocoder", args.venvs)
    report = Report("autoregressive", args.out)
    for title, contenders in (("WaveNet", WAVES), ("PixelCNN", IMAGES)):

        def once(name: str, seed: int, contenders: dict[str, Contender] = contenders) -> Row:
            who = contenders[name]
            command = who.command(interpreter(who.peer, args.venvs))
            return measure(command, ours=who.peer == "reprise", limit=args.limit)

        report.part(title, list(contenders), args.rounds, once)
    report.show("WaveNet", ["samples_per_s", "seconds"], "samples_per_s")
    report.show("PixelCNN", ["images_per_s", "seconds"], "images_per_s")


if __name__ == "__main__":
    main()
