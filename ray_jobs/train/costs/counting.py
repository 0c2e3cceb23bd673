"""What a training takes: weights, memory by part, floating-point operations and the number of GPUs that fit, counted without any of them.

The model is built on tensors without memory and trained for one step of each of its stages, so the largest costs seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ray_jobs.compat import flop_counter
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lightning_modules.model import Batch, Generative
    from ray_jobs.recipe.plan import Fit

ROOM = 0.9
"""Share of a GPU's memory that a training may fill: the rest is for the driver, libraries' buffers and fragments."""
FEW, MORE = 128, 256
"""Examples of the two batches by which the memory of activations is measured; it is linear where these outweigh a layer's gradient."""
GPUS = 4096
"""The most that are thought of."""


@dataclass(frozen=True)
class Stage:
    """One kind of step of a training: that of a stage, or of one of two adversaries."""

    name: str
    """'' where there is only one."""
    flop: float
    """Floating-point operations of the forward and backward pass, for an example."""
    base: float
    """Bytes that are in use at most during a pass besides weights and gradients, whatever the batch."""
    each: float
    """Bytes that each example adds to these."""

    def activations(self, n: int) -> float:
        """Bytes at most for n examples."""
        return self.base + self.each * n


@dataclass(frozen=True)
class Cost:
    """What a training takes; bytes are those of one copy of the model."""

    parameters: int
    trained: int
    """Parameters that an optimiser moves."""
    weights: int
    gradients: int
    optimiser: int
    averages: int
    batch: int
    """The global batch of one optimiser step."""
    accumulate: int
    stages: tuple[Stage, ...]
    """Empty where they could not be counted."""
    unknown: str = ""
    """Why not."""

    @property
    def fixed(self) -> int:
        """Bytes that are in use whatever the batch."""
        return self.weights + self.gradients + self.optimiser + self.averages

    def on_each(self, gpus: int, accumulate: int = 0) -> float:
        """Bytes at most on each of so many GPUs, which share a global batch; each has the whole model (DDP)."""
        n = -(-self.batch // (gpus * (accumulate or self.accumulate)))
        return self.fixed + max((stage.activations(n) for stage in self.stages), default=0.0)

    def fewest(self, memory: float, accumulate: int = 0) -> int:
        """The fewest GPUs of so many bytes that fit and share the batch evenly; 0: no number does."""
        share = self.batch // (accumulate or self.accumulate)
        counts = (n for n in range(1, min(share, GPUS) + 1) if share % n == 0)
        return next((n for n in counts if self.on_each(n, accumulate) <= ROOM * memory), 0)


def cost(recipe: str, settings: Mapping[str, Any] | None = None) -> Cost:
    """What a training of this recipe takes.

    Args:
        settings: those that differ from the recipe's own.

    Raises:
        UsageError: the recipe trains no model, or refuses its settings.
    """
    from ray_jobs.recipe.loading import engine
    from ray_jobs.recipe.loading import recipe as named
    from ray_jobs.train import models

    if engine(named(recipe)) is not models:
        raise UsageError(f"{recipe} trains no generative model: --cost is for those.")
    from ray_jobs.train.costs.weightless import weightless
    from ray_jobs.train.fit import prepare

    with weightless():
        made = prepare(Spec(recipe, dict(settings or {}), 0, Where()))
    return counted(made)


def counted(made: Fit) -> Cost:
    """The cost of a plan whose model has weights without memory."""
    from lightning_modules.ema import averaged_weights

    model = made.model.to("meta")
    free = [p for p in model.parameters() if p.requires_grad]
    moved = [(part, _unique(_optimised(part))) for part in _parts(model)]
    averages = bool(made.ema) + len([w for w in made.ema_power.split(",") if w])
    found = Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        trained=sum(p.numel() for p in _unique([p for _, group in moved for p in group])),
        weights=_bytes([*model.parameters(), *model.buffers()]),
        gradients=_bytes(free),
        optimiser=round(sum(_bytes(group) * state_per_weight(part.optim) for part, group in moved)),
        averages=averages * _bytes(list(averaged_weights(model).values())),
        batch=made.batch,
        accumulate=made.accumulate,
        stages=(),
    )
    if made.precision in ("bf16-true", "16-true"):
        found = replace(found, **{k: getattr(found, k) // 2 for k in ("weights", "gradients", "optimiser", "averages")})
    try:
        return replace(found, stages=tuple(_stages(made)))
    except (RuntimeError, NotImplementedError, KeyError, ValueError, TypeError) as error:
        return replace(
            found, unknown=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        )


def state_per_weight(optim: Any) -> float:
    """The bytes that an optimiser keeps for each byte of a weight, seen at a small matrix."""
    import torch

    layer = torch.nn.Linear(3, 5, bias=False)
    optimizer = optim.of(layer)["optimizer"]
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step()
    kept = [v for v in optimizer.state[layer.weight].values() if isinstance(v, torch.Tensor) and v.numel() > 1]
    return _bytes(kept) / _bytes([layer.weight])


def _parts(model: Generative) -> list[Generative]:
    """The models that have an optimiser of their own."""
    from lightning_modules.staged import Staged

    return [stage.model for stage in model.stages] if isinstance(model, Staged) else [model]


def _optimised(model: Generative) -> list[nn.Parameter]:
    """The weights that a model's optimiser moves."""
    from lightning_modules.diffusion.denoising import Denoising

    part = model.get_submodule(model.trained) if isinstance(model, Denoising) else model
    return [p for p in part.parameters() if p.requires_grad]


def _unique(weights: list[nn.Parameter]) -> list[nn.Parameter]:
    return list({id(p): p for p in weights}.values())


def _bytes(tensors: list[Any]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _stages(made: Fit) -> list[Stage]:
    """Each kind of step of the training, run once for few examples and once for more."""
    found = []
    for name, share, losses in _steps(made.model):
        flop, few = _pass(made, losses, FEW)
        _, more = _pass(made, losses, MORE)
        each = (more - few) / (MORE - FEW)
        found.append(Stage(name, share * flop / FEW, max(0.0, few - FEW * each), each))
    return found


Losses = Callable[["Batch"], Mapping[str, "Tensor"]]


def _steps(model: Generative) -> list[tuple[str, int, Losses]]:
    """The name of each kind of step, how many of it make one step of the run, and its losses of a batch."""
    from lightning_modules.gan.adversarial import AdversarialModel
    from lightning_modules.staged import Staged

    if isinstance(model, AdversarialModel):
        return [("discriminator", model.critic_steps, _discriminators(model)), ("generator", 1, _generators(model))]
    if not isinstance(model, Staged):
        return [("", 1, model.losses)]

    def at(k: int) -> Losses:
        def losses(batch: Batch) -> Mapping[str, Tensor]:
            model.current = k
            model.train()
            return model.losses(batch)

        return losses

    return [(stage.name, 1, at(k)) for k, stage in enumerate(model.stages) if stage.steps]


def _discriminators(model: Any) -> Losses:
    return lambda batch: model.discriminator_losses(batch["x"], model.fakes(batch).detach())


def _generators(model: Any) -> Losses:
    return lambda batch: model.generator_losses(batch["x"], model.fakes(batch))


def _pass(made: Fit, losses: Losses, n: int) -> tuple[float, float]:
    """The operations of a forward and backward pass of n examples, and the bytes that it needs besides weights and gradients.

    A gradient of a weight is dropped as soon as it is whole, for it is counted elsewhere; those of adversaries count twice.
    """
    import torch

    from lightning_modules.dropout import Dropout
    from lightning_modules.gan.adversarial import AdversarialModel
    from ray_jobs.train.costs.weightless import Formless, Live

    model = made.model.train()
    columns = made.data.blank(2).items()
    batch = {k: torch.empty(n, *column.shape[1:], dtype=column.dtype, device="meta") for k, column in columns}
    model.draws = Formless()
    for part in (*model.modules(), *_parts(model)):
        if isinstance(part, Dropout) or part in _parts(model):
            part.draws = model.draws  # type: ignore[assignment]  # of a layer or of a model
    known = [*model.parameters(), *model.buffers(), *batch.values()]
    twice = isinstance(model, AdversarialModel)  # a gradient of a gradient, as in WGAN-GP, allows no such hooks
    hooks = [p.register_post_accumulate_grad_hook(_drop) for p in model.parameters() if p.requires_grad and not twice]
    try:
        with flop_counter() as flop, Live(known) as live:
            torch.stack(list(losses(batch).values())).sum().backward()
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad()
    return float(flop.get_total_flops()), float(live.most)


def _drop(weight: Tensor) -> None:
    weight.grad = None
