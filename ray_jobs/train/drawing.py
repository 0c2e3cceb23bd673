"""How a model's samples are drawn, as the command line of `reprise sample` says it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_jobs.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_modules.conditions import Cond
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
    prompts: tuple[str, ...] = ()
    """Captions, which take turns over the samples."""

    @property
    def given(self) -> dict[str, Any]:
        """The options of the model's `sample` that are given, by name."""
        options = {"sampler": self.sampler, "grid": self.grid, "steps": self.steps, "guidance": self.guidance}
        options |= {"churn": self.churn or None}
        return {name: value for name, value in options.items() if value is not None}

    def options(self, model: Any, n: int) -> dict[str, Any]:
        """The arguments for the model's `sample` that draws n examples.

        Raises:
            UsageError: the model takes no such option, the labels are no whole numbers, or it cannot read a prompt.
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
        cond: Any = labels(self.label, n) if self.label else None
        if self.prompts:
            cond = read(model, self.of_each(n), cond)
        return self.given | ({} if cond is None else {"cond": cond})

    def of_each(self, n: int) -> list[str]:
        """The prompt of each of n samples."""
        return [self.prompts[i % len(self.prompts)] for i in range(n)]


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


def read(model: Any, prompts: Sequence[str], label: Tensor | None) -> Cond:
    """The conditions of a model that are made of prompts, and of labels where there are some.

    Raises:
        UsageError: the model takes no captions; or a prompt is empty, too long, or has an unknown word.
    """
    from lightning_modules.nets.text.captioned import Reads

    net = getattr(model, "net", None)
    if not isinstance(net, Reads):
        raise UsageError(f"{type(model).__name__} takes no --prompt: that is for models of captions, such as GLIDE.")
    try:
        return replace(net.read(prompts), label=label)
    except ValueError as error:
        raise UsageError(str(error)) from None


def prompts_of(prompt: str | None, file: str | None) -> tuple[str, ...]:
    """The prompt, or those in the lines of a text file.

    Raises:
        UsageError: both are given, or the file cannot be read or has no line.
    """
    if file is None:
        return () if prompt is None else (prompt,)
    if prompt is not None:
        raise UsageError("--prompt is one caption and --prompts a file of them: leave one out.")
    try:
        lines = Path(file).expanduser().read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise UsageError(f"--prompts {file} cannot be read: {reason}.") from None
    if not (found := tuple(line.strip() for line in lines if line.strip())):
        raise UsageError(f"--prompts {file} holds no prompt: write one in each line.")
    return found


def refusing(draw: Callable[[], Tensor]) -> Tensor:
    """What `draw` returns; a model's refusal of an option becomes a sentence for the user.

    Raises:
        UsageError: the model refused.
    """
    try:
        return draw()
    except ValueError as error:
        raise UsageError(str(error)) from None
