"""Folders of diffusers: a network's configuration and weights, and those of its scheduler.

    model_index.json                                      names the parts, where diffusers has a pipeline for them
    unet/ or transformer/
        config.json
        diffusion_pytorch_model.safetensors
    scheduler/scheduler_config.json

A folder may come from a stranger: only JSON and safetensors are read, no pickle, and no link is followed (`run.files`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_jobs.errors import UsageError, shortened
from ray_jobs.run.files import opened, write

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_modules.exchange.model import Parts

VERSION = "0.42.1"
"""Of diffusers, whose files these are."""
WEIGHTS = "diffusion_pytorch_model.safetensors"
SHARD = re.compile(r"diffusion_pytorch_model-\d{5}-of-\d{5}\.safetensors")
PICKLES = ("diffusion_pytorch_model.bin", "pytorch_model.bin")
LARGEST = 2**24
"""Bytes of a JSON file."""


def there(folder: str) -> Path:
    """The folder, after a look whether it is there.

    Raises:
        UsageError: it is not.
    """
    if "://" in folder or not Path(folder).is_dir():
        raise UsageError(f"There is no folder {shortened(folder)} on this machine: give one that diffusers has saved.")
    return Path(folder)


def read(folder: str) -> Parts:
    """The network and the scheduler of a folder.

    Raises:
        UsageError: it is no such folder, a file is missing, damaged, a link or a pickle, or safetensors is not installed.
    """
    from lightning_modules.exchange.model import CLASSES, Parts

    root = there(folder)
    at = next((root / name for name in ("unet", "transformer") if (root / name / "config.json").exists()), root)
    config = _json(at / "config.json", root)
    if (name := config.get("_class_name")) not in CLASSES:
        raise UsageError(
            f"{at / 'config.json'} is of the class {shortened(str(name))}: networks of the classes {', '.join(CLASSES)} can be imported."
        )
    schedule = root / "scheduler" / "scheduler_config.json"
    if not schedule.exists():
        schedule = root / "scheduler_config.json"
    return Parts(name, config, _weights(at, root), _json(schedule, root))


def save(folder: Path, parts: Parts, card: str) -> None:
    """Write a folder that diffusers reads, into one that is new or empty.

    Raises:
        UsageError: the folder holds something or cannot be written, or safetensors is not installed.
    """
    from lightning_modules.exchange.model import CLASSES

    packed = _library().save(parts.weights, metadata={"format": "pt"})
    part = CLASSES[parts.network]
    files: dict[str, bytes] = {
        f"{part}/config.json": _text({"_class_name": parts.network, "_diffusers_version": VERSION, **parts.config}),
        f"{part}/{WEIGHTS}": packed,
        "scheduler/scheduler_config.json": _text(
            {"_class_name": "DDPMScheduler", "_diffusers_version": VERSION, **parts.schedule}
        ),
        "README.md": card.encode(),
    }
    if part == "unet":  # diffusers' pipeline of a transformer needs an autoencoder too
        index = {"scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", parts.network]}
        files["model_index.json"] = _text({"_class_name": "DDPMPipeline", "_diffusers_version": VERSION, **index})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"The folder {folder} is not empty: name a new one.")
        for name, data in files.items():
            write(folder / name, data, within=folder)
    except OSError as error:
        raise UsageError(f"The folder {folder} cannot be written ({error.strerror or error}).") from None


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def _json(path: Path, root: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UsageError: the file is missing, a link, too large or no such JSON.
    """
    try:
        found = json.loads(_bytes(path, root, LARGEST))
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is no JSON file of diffusers.") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is no JSON file of diffusers.")
    return found


def _bytes(path: Path, root: Path, most: int | None = None) -> bytes:
    """The content of a file inside a folder.

    Raises:
        UsageError: it is missing, a link or too large.
    """
    try:
        with opened(path, "rb", within=root) as file:
            found: bytes = file.read(-1 if most is None else most + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"The folder {root} holds no {path.relative_to(root)}.") from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}): inside the folder no link is followed. Put the file itself in its place."
        ) from None
    if most is not None and len(found) > most:
        raise UsageError(f"{path} is larger than {most} bytes: it is no file of diffusers.")
    return found


def _weights(at: Path, root: Path) -> dict[str, Tensor]:
    """The tensors of a network's folder, in one file or several.

    Raises:
        UsageError: there are none, they are a pickle, or they cannot be read.
    """
    index = at / f"{WEIGHTS}.index.json"
    if not (at / WEIGHTS).exists() and index.exists():
        named = _json(index, root).get("weight_map")
        names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
        if not names or not all(SHARD.fullmatch(name) for name in names):
            raise UsageError(f"{index} names files that are none of diffusers'.")
        parts = [_tensors(at / name, root) for name in names]
        return {key: tensor for part in parts for key, tensor in part.items()}
    if not (at / WEIGHTS).exists() and (pickled := [name for name in PICKLES if (at / name).exists()]):
        raise UsageError(
            f"{at / pickled[0]} is a pickle, which can run code when it is read: save the network again in diffusers, "
            "which then writes safetensors."
        )
    return _tensors(at / WEIGHTS, root)


def _tensors(path: Path, root: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    library = _library()
    from safetensors import SafetensorError

    data = _bytes(path, root)
    try:
        found: dict[str, Tensor] = library.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UsageError(
            f"{path} cannot be read as safetensors ({type(error).__name__}): it is cut off or damaged."
        ) from None
    if wrong := [key for key, tensor in found.items() if not tensor.is_floating_point()]:
        raise UsageError(f"The weight {shortened(wrong[0])} in {path} holds no real numbers.")
    return found


def _library() -> Any:
    """`safetensors.torch`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError:
        raise UsageError("Folders of diffusers need safetensors: pip install 'reprise[exchange]'.") from None
    return safetensors.torch
