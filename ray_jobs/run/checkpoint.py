"""The file of a checkpoint: PyTorch's zip file with a checksum behind it, which PyTorch's own `torch.load` ignores.

A file is read as values only, and only if it fits its checksum and takes about as much memory as it has bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ray_jobs.errors import UsageError
from ray_jobs.run.files import opened, write

MARK = b"\nreprise sha256 "
"""What stands between PyTorch's file and the 32 bytes of its SHA-256."""
END = len(MARK) + hashlib.sha256().digest_size
ZIP_END = b"PK\5\6"
"""What begins the last 22 bytes of PyTorch's file."""
NAMES = re.compile(
    r"torch (\w+Storage|Size|device|u?int\d+|b?float\d+|complex\d+|bool)|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch\.serialization _get_layout|collections (OrderedDict|Counter)|(__builtin__|builtins) (set|complex)"
)
"""The names that a checkpoint's pickle may use, of those that PyTorch allows: none makes more memory than it is given."""
OBJECTS = 2_000_000
"""Most steps in the making of a checkpoint's small objects, which take about 100 bytes each."""


class Damaged(UsageError):
    """A checkpoint that cannot be used: cut off, changed, or without something that belongs into it."""


class Hashing:
    """A file to write to, and the SHA-256 of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write, and hash."""
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        """As the file's."""
        self.file.flush()


def written(state: Mapping[str, Any]) -> Callable[[BinaryIO], None]:
    """What writes a checkpoint with its checksum to a file, without a copy in memory: a replay buffer may take half of it.

    It raises OSError where the disk is full.

    Args:
        state: tensors and plain types.
    """
    import torch

    def into(file: BinaryIO) -> None:
        hashing = Hashing(file)
        try:
            torch.save(dict(state), hashing)  # type: ignore[arg-type]
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch reports a full disk as a RuntimeError
                raise error.__context__ from None
            raise
        file.write(MARK + hashing.sha256.digest())

    return into


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; see `written`.

    Raises:
        OSError: the disk is full; what was there stays.
    """
    write(path, written(state))


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's state on the CPU; a checkpoint of an earlier version, which has no checksum, is read without one.

    Raises:
        Damaged: it is cut off, does not fit its checksum, is no checkpoint, or is larger in memory than on the disk.
    """
    import torch

    try:
        with opened(path, "rb") as file:
            check_sum(file, path)
            check_size(file, path)
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except Exception as error:  # a damaged file fails in many ways inside torch
        raise Damaged(
            f"The checkpoint {path} cannot be read ({type(error).__name__}): it is cut off or not one of ours."
        ) from None
    if not isinstance(state, dict) or not isinstance(state.get("reprise", {}), dict):
        raise Damaged(f"The checkpoint {path} cannot be read: it is not one of ours.")
    return state


def check_sum(file: BinaryIO, path: Path) -> None:
    """Refuse a file that does not fit its checksum; one that ends as PyTorch ends it has none.

    Raises:
        Damaged: it does not fit, or is cut off.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - END))
    end = file.read(END)
    if not end.startswith(MARK):
        if end[-len(ZIP_END) - 18 :].startswith(ZIP_END):
            return
        raise Damaged(f"The checkpoint {path} cannot be read: its end is cut off or changed.")
    file.seek(0)
    found, left = hashlib.sha256(), size - END
    while left > 0 and (part := file.read(min(left, 2**20))):
        found.update(part)
        left -= len(part)
    if found.digest() != end[len(MARK) :]:
        raise Damaged(f"The checkpoint {path} is damaged: it does not fit its checksum.")


def intact(path: Path) -> bool:
    """Whether a file fits its checksum, or has none."""
    try:
        with opened(path, "rb") as file:
            check_sum(file, path)
    except (Damaged, OSError):
        return False
    return True


def check_size(file: BinaryIO, path: Path) -> None:
    """Refuse a file that would take far more memory than room on the disk.

    PyTorch itself refuses a tensor that is larger than its storage, and a storage that is not as large as its entry in the file.

    Raises:
        Damaged: an entry is compressed, entries overlap, or it makes objects in another way than ours do.
    """
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > size:
            raise Damaged(f"The checkpoint {path} is larger in memory than on the disk: it is not one of ours.")
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                check_names(archive.read(entry), path)


def check_names(pickled: bytes, path: Path) -> None:
    """Refuse a checkpoint's pickle that uses other names than `NAMES`, or makes too many objects.

    Raises:
        Damaged: it does.
    """
    for count, (code, argument, _) in enumerate(pickletools.genops(pickled)):
        if code.name == "GLOBAL" and not NAMES.fullmatch(str(argument)):
            name = str(argument).replace(" ", ".")
            raise Damaged(
                f"The checkpoint {path} cannot be read: it holds {name}, which is not a tensor or plain value."
            )
        if count > OBJECTS:
            raise Damaged(f"The checkpoint {path} cannot be read: it holds too many small objects to be one of ours.")


def of_step(step: int, there: Mapping[int, Path], run: object) -> Path:
    """The checkpoint of a step among those that a run keeps.

    Raises:
        UsageError: there is none of that step.
    """
    if step not in there:
        kept = f"those of the steps {', '.join(map(str, sorted(there)))}" if there else "none yet"
        raise UsageError(f"{run} has no checkpoint of step {step}: it keeps {kept}.")
    return there[step]


def check_recipe(path: Path, state: Mapping[str, Any], recipe: str) -> None:
    """Check that a checkpoint was written by this recipe.

    Raises:
        UsageError: it was not.
    """
    written_by = state.get("reprise", {}).get("recipe")
    if written_by is None:
        raise lacking(path, "the name of its recipe")
    if written_by != recipe:
        raise UsageError(f"The checkpoint {path} was written by the recipe {written_by}, but this run's is {recipe}.")


def check_fields(path: Path, state: Mapping[str, Any], fields: Mapping[str, type | tuple[type, ...]]) -> None:
    """Refuse a checkpoint without a field that it must have.

    Raises:
        Damaged: a field is missing, or of another type.
    """
    for name, kind in fields.items():
        if not isinstance(state.get(name), kind) or (kind is int and isinstance(state[name], bool)):
            raise lacking(path, repr(name))


def lacking(path: Path | str, what: str) -> Damaged:
    """The sentence about a checkpoint in which something is missing."""
    return Damaged(
        f"The checkpoint {path} lacks {what}, or holds something else in its place: it is damaged or not one of ours."
    )


def damage(path: Path | str, error: Exception) -> Damaged:
    """The sentence about a checkpoint that raised an error when it was taken over."""
    first = (str(error).strip().splitlines() or ["no message"])[0].strip("'\"").rstrip(".")
    return lacking(path, f"what is needed ({type(error).__name__}: {first})")


@contextlib.contextmanager
def taken_over(path: Path | str) -> Iterator[None]:
    """Inside the block the content of a checkpoint is taken over: an error there is a fault of the checkpoint.

    Args:
        path: of the checkpoint, or which one it is: 'of step 20'.

    Raises:
        Damaged: the block raised.
    """
    try:
        yield
    except (UsageError, MemoryError, OSError):
        raise
    except Exception as error:  # whatever a missing or wrong field makes of the code that wanted it
        raise damage(path, error) from error
