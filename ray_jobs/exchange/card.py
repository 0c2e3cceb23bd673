"""The model card of an exported network: what it is, what it was trained from, and how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_jobs.errors import printable

UNET = """```python
from diffusers import DDPMPipeline

images = DDPMPipeline.from_pretrained("{folder}")(batch_size=4, num_inference_steps={steps}).images
```"""
TRANSFORMER = """```python
from diffusers import DDPMScheduler, DiTTransformer2DModel

net = DiTTransformer2DModel.from_pretrained("{folder}", subfolder="transformer")
scheduler = DDPMScheduler.from_pretrained("{folder}", subfolder="scheduler")
```

diffusers' `DiTPipeline` needs an autoencoder too, so this folder holds network and scheduler alone.{label}"""
NO_LABELS = " The network has no labels: give it `class_labels` of 0."


@dataclass(frozen=True)
class Origin:
    """Where exported weights come from."""

    recipe: str
    title: str
    seed: int
    step: int
    checkpoint: str
    """Name of the file."""
    sha256: str
    averaged: bool
    """Whether the weights are the average over training."""
    settings: Mapping[str, Any]
    git: str | None
    metrics: Mapping[str, float]
    measured_on: Mapping[str, str]
    """What each metric was measured on."""


def text(origin: Origin, *, folder: str, network: str, steps: int, labels: int) -> str:
    """The card, in Markdown with the head that model hubs read.

    Args:
        folder: name of the folder, as the example of use has it.
        network: class of the network in diffusers.
        steps: of sampling, in the example.
        labels: number of labels, 0 for none.
    """
    unet = network == "UNet2DModel"
    use = (
        UNET.format(folder=folder, steps=steps)
        if unet
        else TRANSFORMER.format(folder=folder, label="" if labels else NO_LABELS)
    )
    kept = "the average of the weights over training" if origin.averaged else "the weights as they were trained"
    rows = {
        "recipe": f"`{origin.recipe}`: {origin.title}",
        "seed": origin.seed,
        "step": origin.step,
        "weights": kept,
        "checkpoint": f"`{origin.checkpoint}`, SHA-256 `{origin.sha256}`",
        "git commit of Reprise": f"`{origin.git}`" if origin.git else "unknown",
    }
    if labels:
        rows["labels"] = f"0 to {labels - 1}; {labels} is no label"
    lines = [
        "---",
        "library_name: diffusers",
        "tags: [diffusion, reprise]",
        "---",
        "",
        f"# {origin.recipe}",
        "",
        use,
        "",
    ]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items()), ""]
    if origin.metrics:
        lines += ["## Measured", "", "| metric | value | on |", "|---|---|---|"]
        lines += [
            f"| {_cell(n)} | {v:.6g} | {_cell(origin.measured_on.get(n, ''))} |" for n, v in origin.metrics.items()
        ]
        lines += [""]
    lines += ["## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in sorted(origin.settings.items())]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    """A value in a table: on one line, without marks that would end its cell."""
    return printable(value).replace("|", "\\|").replace("<", "&lt;")
