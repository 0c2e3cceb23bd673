"""How a model's samples are drawn, as the command line of `reprise sample` says it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ray_jobs.errors import UsageError
from ray_jobs.train.control_map import with_control

if TYPE_CHECKING:
    from torch import Tensor

    from ray_jobs.run.folder import Run


@dataclass(frozen=True)
class Drawing:
    """Options of `reprise sample`; what is None or empty stays as the model has it."""

    label: str = ""
    """Classes, as '3' or '0,1,2': they take turns over the samples."""
    sampler: str | None = None
    grid: str | None = None
    steps: int | None = None
    guidance: float | None = None
    compare: bool = False
    """Whether a second picture shows the same noise by every sampler."""
    churn: Mapping[str, float] = field(default_factory=dict)
    """EDM's churn settings that are given, as `samplers.edm.heun` names them."""
    ema: float | None = None
    """Relative width of the average of the weights; None: the weights as the recipe averages them."""
    control: str = ""
    """File of the picture that samples of a ControlNet follow."""

    @property
    def given(self) -> dict[str, Any]:
        """The options of the model's `sample` that are given, by name."""
        options = {"sampler": self.sampler, "grid": self.grid, "steps": self.steps, "guidance": self.guidance}
        options |= {"churn": self.churn or None}
        return {name: value for name, value in options.items() if value is not None}

    def options(self, model: Any, n: int) -> dict[str, Any]:
        """The arguments for the model's `sample` that draws n examples.

        Raises:
            UsageError: the model takes no such option, the labels are no whole numbers, or the control cannot be followed.
        """
        taken = inspect.signature(model.sample).parameters
        if other := [name for name in self.given if name not in taken]:
            raise UsageError(f"{type(model).__name__} takes no --{other[0]}: that is for diffusion models.")
        if self.compare and "sampler" not in taken:
            raise UsageError(f"{type(model).__name__} has no samplers to compare: --compare is for diffusion models.")
        if self.compare and self.churn:
            raise UsageError(
                f"--compare draws by every sampler, and --{next(iter(self.churn))} is for one: leave one out."
            )
        found = self.given | ({"cond": labels(self.label, n)} if self.label else {})
        return with_control(found, self.control, model, n)


AS_TRAINED = Drawing()
"""As the recipe has it, without conditions."""


def refuse_average(run: Run, ema: float | None) -> None:
    """Refuse the average of a model's weights for a run that is none of a model.

    Raises:
        UsageError: one is asked for.
    """
    if ema is not None:
        raise UsageError(f"{run} trained no generative model: --ema is for those.")


def labels(text: str, n: int) -> Tensor:
    """Labels [n] of a list such as '3' or '0,1,2', which take turns.

    Raises:
        UsageError: an entry is no whole number from 0 on.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UsageError(f"--label takes classes as whole numbers from 0 on, such as 3 or 0,1,2, not '{text}'.")
    import torch

    classes = torch.tensor([int(part) for part in parts])
    return classes.repeat(-(-n // len(parts)))[:n]


def refusing(draw: Callable[[], Tensor]) -> Tensor:
    """What `draw` returns; a model's refusal of an option becomes a sentence for the user.

    Raises:
        UsageError: the model refused.
    """
    try:
        return draw()
    except ValueError as error:
        raise UsageError(str(error)) from None
