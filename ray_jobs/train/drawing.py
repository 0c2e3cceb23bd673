"""How a model's samples are drawn, as the command line of `reprise sample` says it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ray_jobs.errors import UsageError
from ray_jobs.train.control_map import with_control

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.base import Data
    from lightning_modules.conditions import Cond
    from ray_jobs.run.folder import Run

Video = Literal["gif", "mp4"]


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
    image: str = ""
    """A file or a folder of low-resolution images, which take turns over the samples."""
    level: float | None = None
    """Of the noise of a cascade's low-resolution images."""
    ema: float | None = None
    """Relative width of the average of the weights; None: the weights as the recipe averages them."""
    prompts: tuple[str, ...] = ()
    """Captions, which take turns over the samples."""
    control: str = ""
    """File of the picture that samples of a ControlNet follow."""
    episodes: int | None = None
    """Episodes of an agent that are recorded."""
    stochastic: bool = False
    """Whether an agent's actions are drawn from its policy."""
    video: Video | None = None
    """Kind of file of an agent's episodes."""

    @property
    def of_an_agent(self) -> Drawing:
        """The options for agents alone."""
        return Drawing(episodes=self.episodes, stochastic=self.stochastic, video=self.video)

    @property
    def given(self) -> dict[str, Any]:
        """The options of the model's `sample` that are given, by name."""
        options = {"sampler": self.sampler, "grid": self.grid, "steps": self.steps, "guidance": self.guidance}
        options |= {"churn": self.churn or None, "level": self.level}
        return {name: value for name, value in options.items() if value is not None}

    def options(self, model: Any, n: int) -> dict[str, Any]:
        """The arguments for the model's `sample` that draws n examples.

        Raises:
            UsageError: the model takes no such option, the labels are no whole numbers, it cannot read a prompt, or the control
                cannot be followed.
        """
        if self.of_an_agent != AS_TRAINED:
            raise UsageError(
                f"{type(model).__name__} plays no episodes: --episodes, --stochastic and --video are for agents."
            )
        taken = inspect.signature(model.sample).parameters
        if other := [name for name in self.given if name not in taken]:
            kind = "cascades" if other[0] == "level" else "diffusion models"
            raise UsageError(f"{type(model).__name__} takes no --{other[0]}: that is for {kind}.")
        if self.compare and "sampler" not in taken:
            raise UsageError(f"{type(model).__name__} has no samplers to compare: --compare is for diffusion models.")
        if self.compare and self.churn:
            raise UsageError(
                f"--compare draws by every sampler, and --{next(iter(self.churn))} is for one: leave one out."
            )
        cond = self.cond(model, n)
        return with_control(self.given | ({} if cond is None else {"cond": cond}), self.control, model, n)

    def of_each(self, n: int) -> list[str]:
        """The prompt of each of n samples."""
        return [self.prompts[i % len(self.prompts)] for i in range(n)]

    def cond(self, model: Any, n: int) -> Cond | None:
        """The conditions of n examples that are given; None without any.

        Raises:
            UsageError: the labels are no whole numbers, the model draws from no images, or from others than these, or it cannot
                read a prompt.
        """
        from lightning_modules.conditions import Cond

        shape = getattr(model, "image_shape", ())
        if self.image and not shape:
            raise UsageError(f"{type(model).__name__} draws from no low-resolution images: leave --image out.")
        found = read(model, self.of_each(n)) if self.prompts else Cond()
        found = replace(
            found,
            label=labels(self.label, n) if self.label else None,
            image=low_images(self.image, shape, n) if self.image else None,
        )
        return found if found.given else None


AS_TRAINED = Drawing()
"""As the recipe has it, without conditions."""


def refuse_average(run: Run, ema: float | None) -> None:
    """Refuse the average of a model's weights for a run that is none of a model.

    Raises:
        UsageError: one is asked for.
    """
    if ema is not None:
        raise UsageError(f"{run} trained no generative model: --ema is for those.")


def low_images(place: str, shape: tuple[int, ...], n: int) -> Tensor:
    """The image of a file, or those of a folder in the order of their names, in [-1, 1], which take turns: [n, *shape].

    Raises:
        UsageError: there is none, or one cannot be read or has another size.
    """
    import numpy as np
    import torch

    from datamodules.readers.files import PICTURES, every
    from datamodules.readers.pictures import in_channels, upright

    path, found = Path(place).expanduser(), []
    files = every(path, set(PICTURES)) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise UsageError(f"--image {place} is no file and no folder of images.")
    channels, high, wide = shape
    for file in files[:n]:
        try:
            picture = in_channels(upright({"bytes": file.read_bytes(), "path": None}, str(file)), channels, str(file))
        except (ValueError, OSError) as error:
            raise UsageError(str(error)) from error
        if picture.size != (wide, high):
            raise UsageError(
                f"The image {file} has {picture.size[0]} x {picture.size[1]} pixels, but this run draws from images of "
                f"{wide} x {high}: give one of that size."
            )
        found.append(torch.from_numpy(np.array(picture).reshape(high, wide, channels)).permute(2, 0, 1))
    return in_turns(torch.stack(found).float() / 127.5 - 1, n)


def in_turns(rows: Tensor, n: int) -> Tensor:
    """n rows [n, *D] of those that there are, which take turns."""
    return rows[[i % len(rows) for i in range(n)]]


def of_held_out(model: Any, data: Data, cond: Cond | None, n: int) -> Cond | None:
    """The conditions of n samples; a super-resolution model, given no images, draws from the twins of held-out examples.

    Where it is given no conditions at all, it takes their labels, too.
    """
    from lightning_modules.diffusion.denoising import Denoising

    if not isinstance(model, Denoising) or not model.image_shape or (cond is not None and cond.image is not None):
        return cond
    own = model.conditions(data.test(n))
    own = own.rows([i % len(own.image) for i in range(n)])  # type: ignore[arg-type]  # it is trained with images
    return own if cond is None else replace(cond, image=own.image)


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


def read(model: Any, prompts: Sequence[str]) -> Cond:
    """The conditions of a model that are made of prompts.

    Raises:
        UsageError: the model takes no captions; or a prompt is empty, too long, or has an unknown word.
    """
    from lightning_modules.nets.text.captioned import Reads

    net = getattr(model, "net", None)
    if not isinstance(net, Reads):
        raise UsageError(f"{type(model).__name__} takes no --prompt: that is for models of captions, such as GLIDE.")
    try:
        return net.read(prompts)
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
