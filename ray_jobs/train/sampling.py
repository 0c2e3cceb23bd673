"""Samples of a trained model, and the pictures and files of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightning_modules.conditions import Cond
from lightning_modules.model import Density, Generative, Shows
from lightning_modules.nets.text.captioned import Reads
from lightning_modules.staged import Staged
from ray_jobs.run.files import write
from ray_jobs.train.drawing import AS_TRAINED, Drawing, of_held_out, refusing

if TYPE_CHECKING:
    import numpy as np

    from datamodules.base import Data

CAPTIONS, STRENGTH = 16, 2.0
"""Samples of held-out captions, and the strength of their guidance."""


@torch.no_grad()
def sample(
    trained: Generative,
    data: Data,
    folder: Path,
    n: int,
    *,
    seed: int = 0,
    name: str = "samples",
    how: Drawing = AS_TRAINED,
) -> Path:
    """Draw `n` samples into `folder`: <name>.png, <name>.npy and, for waves, <name>.wav; of prompts, <name>.txt with that of each sample.

    A model of captions, drawn without prompts, also adds <name>-captions.png and .txt: samples of captions that were held out. A
    model that `Shows` more adds <name>-<what>.png. In the plane, where model and data are densities, <name>-density.png shows both.

    Raises:
        UsageError: the model does not take an option of `how`.
    """
    import numpy as np

    from ray_jobs.results import plots
    from ray_jobs.results.comparison import comparison

    model = trained.sampled if isinstance(trained, Staged) else trained

    def draw(**options: Any) -> np.ndarray:
        rng = torch.Generator(model.device).manual_seed(seed)
        return refusing(lambda: model.sample(n, rng=rng, **options)).float().cpu().numpy()

    options = how.options(model, n)
    if (cond := of_held_out(model, data, options.get("cond"), n)) is not None:
        options["cond"] = cond
    drawn = draw(**options)
    if how.compare:
        rows = {sampler: draw(**options | {"sampler": sampler}) for sampler in model.samplers}
        comparison(rows, folder / f"{name}-compare.png")
    write(folder / f"{name}.npy", lambda file: np.save(file, drawn))
    if how.prompts:
        write(folder / f"{name}.txt", "".join(f"{prompt}\n" for prompt in how.of_each(n)).encode())
    elif isinstance(net := getattr(model, "net", None), Reads):
        _of_captions(model, net, data, folder, f"{name}-captions", seed)
    if drawn.shape[1:] == (2,) and isinstance(model, Density) and isinstance(data, Density):
        heat(model, data, folder / f"{name}-density.png")
    for what, shown in _pictures(model, data, seed).items():
        plots.samples(shown, folder / f"{name}-{what}.png")
    if isinstance(rate := getattr(model, "rate", None), int):
        plots.wav(drawn, rate, folder / f"{name}.wav")
        return plots.spectrograms(drawn, rate, folder / f"{name}.png")
    truth = data.test(n)["x"] if drawn.shape[1:] == (2,) else None
    return plots.samples(drawn, folder / f"{name}.png", truth=truth)


@torch.no_grad()
def heat(model: Any, data: Any, path: Path, *, side: int = 128) -> Path:
    """Draw the densities of a model and of its data side by side, on the square of the plane that holds the data."""
    from ray_jobs.results import plots

    reach = 1.1 * data.test(4096)["x"].abs().quantile(0.999).item()
    line = (torch.arange(side) + 0.5) * 2 * reach / side - reach
    points = torch.cartesian_prod(line, line)
    ours = torch.cat([model.log_prob(part.to(model.device)).float().cpu() for part in points.split(4096)])
    both = [logs.reshape(side, side).numpy() for logs in (ours, data.log_prob(points))]
    return plots.densities(*both, reach, path)


def _of_captions(model: Any, net: Reads, data: Data, folder: Path, name: str, seed: int) -> None:
    """Samples of the first captions that were held out, where the data have some, and their words in a text file."""
    from ray_jobs.results import plots

    data.setup("test")
    batch = data.test(CAPTIONS)
    if "caption" not in batch:
        return
    cond, rng = Cond(tokens=batch["caption"]), torch.Generator(model.device).manual_seed(seed)
    plots.samples(model.sample(len(batch["caption"]), cond, guidance=STRENGTH, rng=rng), folder / f"{name}.png")
    write(folder / f"{name}.txt", "".join(f"{text}\n" for text in net.sentences(cond)).encode())


def _pictures(model: Generative, data: Data, seed: int) -> dict[str, torch.Tensor]:
    """The pictures that the model shows besides samples, by name."""
    if not isinstance(model, Shows):
        return {}
    data.setup("test")
    return model.pictures(data, torch.Generator(model.device).manual_seed(seed))
