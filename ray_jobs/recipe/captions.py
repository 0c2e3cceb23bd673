"""Measures of models of captions: whether a picture shows its caption, read off the pixels of shapes, or by a CLIP that judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.measures import measuring

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.base import Batch, Data
    from datamodules.labs.shapes import Shapes
    from lightning_modules.diffusion.clip import CLIP
    from lightning_modules.diffusion.denoising import Denoising


def chance(side: int = 32) -> dict[str, float]:
    """accuracy_chance and attributes_chance: what pictures reach if captions are not read, exactly. The middle is likelier than 1/9.

    Args:
        side: of the pictures, in pixels.
    """
    import torch

    from datamodules.labs.shapes import COLOURS, GROUNDS, KINDS, radii

    third = torch.arange(side) * 3 // side
    places = [third[r : side - r] for r in radii(side).tolist()]  # of the centre of a shape of each size
    share = torch.stack([torch.bincount(place, minlength=3) / len(place) for place in places]).double()
    same = (share @ share.T / len(share) ** 2).double()  # both sizes, and one third
    plain = [1 / len(KINDS), 1 / len(COLOURS), 1 / len(GROUNDS)]
    whole = plain[0] * plain[1] * plain[2] * ((share @ share.T).diagonal().square().sum() / len(share) ** 2).item()
    return {
        "accuracy_chance": whole,
        "attributes_chance": (sum(plain) + 1 / len(share) + 2 * same.sum().item()) / 6,
    }


def as_captioned(x: Tensor, attributes: Tensor) -> Tensor:
    """Which of the six attributes pictures x [B, 3, S, S] show as `attributes` [B, 6] have them, [B, 6] bool.

    A place counts by the third of the picture that it is in, both ways, as captions have it.
    """
    import torch

    from datamodules.labs.shapes import read

    side = x.shape[2]
    seen, wanted = torch.stack(read(x).attributes, 1), attributes.clone()
    for rows in (seen, wanted):
        rows[:, 4:] = rows[:, 4:] * 3 // side
    return seen == wanted


def at_strengths(model: Denoising, data: Shapes, strengths: tuple[float, ...], *, n: int = 256) -> dict[str, float]:
    """Samples of the captions of n held-out pictures at these strengths w of guidance, judged by the reader of pixels.

    accuracy_W: share of them with all six attributes of their captions. attributes_W: share of the attributes that are right. recall_W:
    share of the held-out pictures that lie among the samples, by means of 4 x 4 pixels; it falls where samples differ less than pictures.
    """
    from lightning_modules.conditions import Cond
    from lightning_modules.metrics.scores import precision_recall

    real = data.test(n)
    cond, found, n = Cond(tokens=real["caption"]), {}, len(real["x"])
    for w in strengths:
        x = model.sample(n, cond, guidance=w, rng=measuring(), batch=n).float().cpu()
        right = as_captioned(x, real["attributes"])
        found[f"accuracy_{w:g}"] = right.all(1).double().mean().item()
        found[f"attributes_{w:g}"] = right.double().mean().item()
        found[f"recall_{w:g}"] = precision_recall(coarse(x), coarse(real["x"]))[1]
    return found


def coarse(x: Tensor) -> Tensor:
    """Means of 4 x 4 pixels of pictures x [B, C, H, W], as features [B, D]."""
    from torch.nn import functional as F

    return F.avg_pool2d(x, 4).flatten(1)


def retrieval(clip: CLIP, data: Shapes, level: float, *, n: int = 256) -> float:
    """The share of n held-out pictures, at this noise level, whose own caption is the likeliest of all n by the CLIP."""
    import torch

    batch = data.test(n)
    x, rng = batch["x"].to(clip.device), measuring()
    y = x + level * torch.randn(x.shape, generator=rng).to(x)
    return agreement(clip, y, batch["caption"], level)["retrieval"]


def agreement(clip: CLIP, x: Tensor, tokens: Tensor, level: float = 0.0) -> dict[str, float]:
    """How well pictures x [N, C, H, W] at a noise level fit their captions [N, L] by a CLIP.

    clip_score: mean cosine of the features of a picture and of its caption. retrieval: share of the pictures whose own caption is the
    likeliest of all N; one of the same words counts as its own.
    """
    import torch

    with torch.no_grad():
        y = x.to(clip.device)
        images = clip.of_images(y, y.new_full((len(y),), level))
        captions = clip.of_captions(tokens.to(y.device))
    cosine = (images @ captions.T).cpu()
    same = (tokens[cosine.argmax(1)] == tokens).all(1)
    return {"clip_score": cosine.diagonal().double().mean().item(), "retrieval": same.double().mean().item()}


def retrieval_chance(tokens: Tensor) -> float:
    """The retrieval of `agreement` that a choice of captions [N, L] without a look at the pictures reaches."""
    return (tokens[:, None] == tokens).all(2).double().mean().item()


def without_captions(clip: CLIP, x: Tensor, tokens: Tensor) -> dict[str, float]:
    """clip_score_chance and retrieval_chance: `agreement` of captions with true pictures [N, C, H, W] of other captions."""
    score = agreement(clip, x.roll(1, 0), tokens)["clip_score"]
    return {"clip_score_chance": score, "retrieval_chance": retrieval_chance(tokens)}


def by_judge(judge: CLIP, model: Denoising, pairs: Batch, strengths: tuple[float, ...]) -> dict[str, float]:
    """Samples of captions at these strengths w of guidance, judged by a CLIP that guides none of them.

    clip_score_W and retrieval_W: `agreement` of samples and captions; with _real, of the true pictures in their place; and
    `without_captions`. recall_W: as in `at_strengths`.

    Args:
        pairs: true pictures 'x' [N, C, H, W] and 'caption' [N, L].
    """
    from lightning_modules.conditions import Cond
    from lightning_modules.metrics.scores import precision_recall

    real, tokens = pairs["x"], pairs["caption"]
    found = {f"{name}_real": value for name, value in agreement(judge, real, tokens).items()}
    found |= without_captions(judge, real, tokens)
    for w in strengths:
        x = model.sample(len(tokens), Cond(tokens=tokens), guidance=w, rng=measuring()).float().cpu()
        found |= {f"{name}_{w:g}": value for name, value in agreement(judge, x, tokens).items()}
        found[f"recall_{w:g}"] = precision_recall(coarse(x), coarse(real))[1]
    return found


def likeness_of_captions(model: Denoising, data: Data, *, n: int = 64) -> dict[str, float]:
    """Sliced Wasserstein distance of samples of the captions of n held-out images, without guidance, to these images."""
    from lightning_modules.conditions import Cond
    from lightning_modules.metrics.samples import sliced_wasserstein

    batch, rng = data.test(n), measuring()
    x = model.sample(len(batch["x"]), Cond(tokens=batch["caption"]), rng=rng).float().cpu()
    return {"sliced_w2": sliced_wasserstein(x, batch["x"], rng=rng)}
