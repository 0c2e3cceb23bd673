"""Scores of a model's images by their features (`--features`), and what they are compared with (`--reference`)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.base import Data, part_of
from lightning_modules.conditions import Cond
from lightning_modules.draws import key
from lightning_modules.metrics import scores
from lightning_modules.metrics.features import KINDS, Features, Kind, load
from lightning_modules.metrics.gaussian import frechet
from lightning_modules.metrics.statistics import Moments, Statistics, read
from lightning_modules.metrics.statistics import check as check_statistics
from lightning_modules.model import NotFinite
from lightning_modules.staged import Staged
from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Fit
from ray_jobs.train.drawing import of_held_out

DRAWN = 256
"""Samples that are drawn with one generator; they do not depend on how many processes draw."""
CAPTIONS = 10_000
"""Captions that samples are drawn for, at most."""
STREAM = 1_618_033_988
"""Keeps the samples' random numbers apart from those of the training."""
PARTS = ("train", "test")
"""The words for parts of the data; any other reference is a file."""


@dataclass(frozen=True)
class Share:
    """One of several processes that draw together."""

    rank: int = 0
    world: int = 1
    gather: Callable[[Tensor], Tensor] = lambda x: x
    """[B, D] of each process -> [world * B, D], in the order of their ranks."""
    stopped: Callable[[], bool] = lambda: False
    """Whether the run is to stop; the same in all processes."""


ALONE = Share()


class Interrupted(Exception):
    """The run is to stop; its evaluation is repeated when it continues."""


class Reference(NamedTuple):
    """What samples are compared with."""

    features: Features
    mean: Tensor
    cov: Tensor
    rows: Tensor | None
    """Features [M, D] of single images; None where a file holds only moments."""
    floor: float | None
    """The Frechet distance of other true images; None where there are none, or too few."""


def check(made: Fit) -> Features:
    """The network, after a check that the samples of a plan can be compared by it.

    Raises:
        ValueError: its data are no images, its reference does not fit, or there are too few images or samples.
    """
    data, shape = made.data, made.data.shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"--features compares images of 1 or 3 channels, but an example of these data has the shape {shape}."
        )
    features = load(made.features)
    needed = f"a covariance of {features.kind.size:,} features needs at least {features.least:,}"
    if made.eval_samples < features.least:
        raise ValueError(f"--eval_samples is {made.eval_samples:,}: {needed}.")
    if made.reference not in PARTS:
        check_statistics(_filed(made), Path(made.reference), features, shape[1:])  # type: ignore[arg-type]
    elif (count := _count(data, made.reference, features.least)) < features.least:
        raise ValueError(f"--reference {made.reference} has {count:,} images: {needed}.")
    return features


def _filed(made: Fit) -> Statistics:
    return read(Path(made.reference).expanduser())


def _count(data: Data, part: str, enough: int) -> int:
    """The images of a part; of held-out ones, no more than `enough` are read."""
    if part == "test":
        return len(data.test(enough)["x"])
    try:
        return data.seen_in_parts()[0]
    except ValueError as error:
        raise ValueError(f"{error} Compare with the held-out ones: --reference test.") from None


def reference(made: Fit, device: torch.device) -> Reference:
    """What the samples of a plan are compared with; the network of features moves to a device.

    Raises:
        ValueError: as in `check`.
    """
    features = check(made).to(device)
    if made.reference in PARTS:
        moments, rows = summary(features, *_images(made.data, made.reference), keep=made.eval_samples)
        mean, cov = moments.mean, moments.cov
    else:
        filed, rows = _filed(made), None
        mean, cov = filed.mean, filed.cov
    other = _other(made.data, made.reference, made.eval_samples, features)
    return Reference(features, mean, cov, rows, frechet(other.mean, other.cov, mean, cov) if other else None)


def statistics(made: Fit, device: torch.device, recipe: str) -> Statistics:
    """The statistics of the part of a plan's images that its reference names.

    Raises:
        ValueError: as in `check`.
    """
    features = check(made).to(device)
    moments, _ = summary(features, *_images(made.data, made.reference))
    high, wide = made.data.shape[1:]
    return Statistics(
        moments.mean, moments.cov, moments.n, (high, wide), features.sha256, f"{_words(made)} of {recipe}"
    )


def _images(data: Data, part: str) -> tuple[int, Iterator[Tensor]]:
    """The number of images of a part, and the images."""
    if part == "test":
        x = data.test()["x"]
        return len(x), iter(x.split(1024))
    count, parts = data.seen_in_parts()
    return count, (batch["x"] for batch in parts)


def summary(features: Features, count: int, images: Iterable[Tensor], *, keep: int = 0) -> tuple[Moments, Tensor]:
    """The moments of the features of images, and at most `keep` of their rows, evenly spread.

    Raises:
        ValueError: the values of the images are beyond [-1, 1].
    """
    moments, rows = Moments(features.kind.size), []
    for x in images:
        if (most := x.abs().max().item()) > 1 + 1e-4:
            raise ValueError(f"--features compares images with values in [-1, 1], but these reach {most:g}.")
        found, _ = features(x)
        if keep:
            place = torch.arange(moments.n, moments.n + len(found))
            rows.append(found[(place + 1) * keep // count > place * keep // count])
        moments.add(found)
    return moments, torch.cat(rows) if rows else torch.empty(0, features.kind.size)


def _other(data: Data, part: str, most: int, features: Features) -> Moments | None:
    """The moments of true images that are not the reference's; None where there are none, or too few."""
    with contextlib.suppress(ValueError, NotImplementedError):
        x = data.seen(most)["x"] if part == "test" else data.test(most)["x"]
        if len(x) >= features.least:
            return summary(features, len(x), x.split(1024))[0]
    return None


def drawn(model: Any, data: Data, features: Features, n: int, seed: int, share: Share) -> tuple[Tensor, Tensor]:
    """Features [n, D] and logits [n, K] of n samples, which all processes draw together.

    Classes of a model that is guided by labels take turns; so do the captions of up to CAPTIONS held-out images of a model of captions,
    and the twins of up to 1,024 of them, from which a super-resolution model draws.

    Raises:
        Interrupted: the run is to stop.
        NotFinite: a sample is NaN or infinite.
    """
    source = model.sampled if isinstance(model, Staged) else model
    classes = data.classes if "label" in getattr(source, "hide", {}) else 0
    given = of_held_out(source, data, None, min(n, 1024)) or captions(source, data, min(n, CAPTIONS))
    parts: list[tuple[Tensor, Tensor]] = []
    for start in range(0, n, DRAWN * share.world):
        if share.stopped():
            raise Interrupted
        first = start + DRAWN * share.rank
        count = max(0, min(DRAWN, n - first))
        rng = torch.Generator(source.device).manual_seed(key(seed, first, STREAM))
        place = torch.arange(first, first + count)
        cond = given.rows(place % (given.size or 1)) if given else place % classes if classes else None
        x = source.sample(count, cond, rng=rng) if count else torch.zeros(1, *data.shape, device=source.device)
        if not x.isfinite().all():
            raise NotFinite("A sample of the model is NaN or infinite: it cannot be measured.")
        found = (_padded(part[:count], share) for part in features(x))
        parts.append(tuple(share.gather(part) for part in found))  # type: ignore[arg-type]
    rows, logits = (torch.cat(part)[:n] for part in zip(*parts, strict=True))
    return rows, logits


def captions(source: Any, data: Data, n: int) -> Cond | None:
    """The captions of at most n held-out images; None for a model that is not guided by captions."""
    return Cond(tokens=data.test(n)["caption"]) if "tokens" in getattr(source, "hide", {}) else None


def _padded(x: Tensor, share: Share) -> Tensor:
    """x [B, D] with zeros up to DRAWN rows, which all processes have; they are the last of all samples and are cut off."""
    return x if share.world == 1 else torch.cat([x, x.new_zeros(DRAWN - len(x), x.shape[1])])


def measured(rows: Tensor, logits: Tensor, against: Reference) -> dict[str, float]:
    """Scores of samples by their features [N, D] and logits [N, K]."""
    kind, moments = against.features.kind, Moments(rows.shape[1])
    moments.add(rows)
    found = {kind.frechet: frechet(moments.mean, moments.cov, against.mean, against.cov)}
    if against.floor is not None:
        found[f"{kind.frechet}_floor"] = against.floor
    if against.rows is not None:
        kid, error = scores.kernel_distance(rows, against.rows, rng=torch.Generator().manual_seed(0))
        found[f"kid{kind.suffix}"] = kid
        found |= {} if math.isnan(error) else {f"kid{kind.suffix}_error": error}
        precision, recall = scores.precision_recall(rows, against.rows)
        found |= {f"precision{kind.suffix}": precision, f"recall{kind.suffix}": recall}
    return found | {kind.score: scores.class_score(logits)}


class Comparison:
    """Compares samples with a plan's reference, which is read once."""

    def __init__(self, made: Fit) -> None:
        self.made = made
        self._network: Features | None = None
        self._reference: Reference | None = None

    def __call__(self, model: Any, seed: int, share: Share = ALONE) -> dict[str, float]:
        """Scores of a model's samples, by name; none in other processes than the first.

        Raises:
            UsageError: as `check` refuses, or the model cannot be sampled without more.
            Interrupted, NotFinite: as in `drawn`.
        """
        made = self.made
        try:
            self._network = (self._network or check(made)).to(model.device)
            found = drawn(model, made.data, self._network, made.eval_samples, seed, share)
            if share.rank:
                return {}
            self._reference = self._reference or reference(made, model.device)
            return measured(*found, self._reference)
        except ValueError as error:
            raise UsageError(str(error)) from error


def splits(made: Fit, metrics: Iterable[str]) -> dict[str, str]:
    """What each of these scores compares with what, of those among the metrics."""
    names = {name: words for kind in KINDS for name, words in _compared(kind, made).items()}
    return {name: names[name] for name in metrics if name in names} if made.features else {}


def _compared(kind: Kind, made: Fit) -> dict[str, str]:
    which, samples = _words(made), f"{made.eval_samples:,} samples"
    with_it = (
        kind.frechet,
        *(f"{name}{kind.suffix}" for name in ("kid", "precision", "recall")),
        f"kid{kind.suffix}_error",
    )
    floor = f"{'train' if made.reference == 'test' else part_of(made.data)} against {which}"
    return dict.fromkeys(with_it, f"{which}, {samples}") | {
        f"{kind.frechet}_floor": floor,
        kind.score: f"{samples} alone",
    }


def _words(made: Fit) -> str:
    """The reference in words."""
    if made.reference in PARTS:
        return part_of(made.data) if made.reference == "test" else "train"
    return f"{_filed(made).of} ({Path(made.reference).name})"
