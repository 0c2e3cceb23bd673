"""A recipe that trains in a moment: for tests that need a real run, and no result."""

from __future__ import annotations

from pathlib import Path

TOY = '''"""A model of mine."""

from ray_jobs.recipe import Claim, Fit, Headline, Recipe


def build(*, width: int = 4, pace: float = 0.0) -> Fit:
    """Mine.

    Args:
        width: units.
        pace: seconds of each step.
    """
    import time

    import torch

    from datamodules.base import Data, Endless
    from lightning_modules.model import Generative

    class Toy(Generative):
        def __init__(self):
            super().__init__()
            self.net, self.shape = torch.nn.Linear(2, 2), (2,)

        def losses(self, batch):
            time.sleep(pace)
            return {"mse": (self.net(batch["x"]) - batch["x"]).square().mean()}

    class Points(Data):
        def __init__(self):
            super().__init__(batch=8)
            self.shape, self.source = (2,), Endless(lambda n, rng: {"x": torch.randn(n, 2, generator=rng)})

    return Fit(Toy(), Points(), lambda model, data: {"score": 1.0 * width})


mine = Recipe(
    "Mine.",
    build,
    system="Toy",
    headline=Headline("me"),
    data="toy",
    claim=Claim("score", at_least=0.01, seeds=2),
    defaults={"steps": 4, "batch": 8, "log_every": 1, "save_every": 2, "ema": 0.0},
)
'''


def write_toy(folder: Path) -> str:
    """Write the recipe's module into a folder, which must be on the path; its name."""
    (folder / "toylab").mkdir()
    (folder / "toylab" / "mine.py").write_text(TOY)
    return "toylab.mine"
