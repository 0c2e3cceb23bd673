"""The folder of local copies: only this user can read or change it, whoever else uses the machine."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from hashlib import sha256
from pathlib import Path

from ray_jobs.errors import UsageError


def private(folder: Path) -> Path:
    """Make a folder that only its owner can enter, or take one that is there if it is that.

    Its name may be known to others, and its parent open to them, as /tmp is: a folder or link that another user has made is refused. An
    own folder that others can enter, as earlier versions made them, is closed to them.

    Raises:
        UsageError: it is another user's, a link or a file, or cannot be made.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        seen = os.lstat(folder)
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
            what = "a link" if stat.S_ISLNK(seen.st_mode) else "no folder of yours"
            raise UsageError(
                f"{folder} is {what}, so local copies of runs are not safe there: set REPRISE_CACHE to a folder of yours."
            )
        if seen.st_mode & 0o077:
            os.chmod(folder, 0o700)
    except OSError as error:
        raise UsageError(
            f"The folder {folder} of local copies cannot be used ({error.strerror}): set REPRISE_CACHE to a folder of yours."
        ) from None
    return folder


def copies() -> Path:
    """The folder of local copies on this machine: REPRISE_CACHE, or one in the folder for temporary files.

    It is no folder of the user's home: machines that share a home would write into one copy.

    Raises:
        UsageError: it cannot be used.
    """
    if own := os.environ.get("REPRISE_CACHE"):
        try:
            Path(own).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(f"REPRISE_CACHE is {own}, which cannot be used ({error.strerror}).") from None
        return Path(own)
    return private(Path(tempfile.gettempdir()) / f"reprise-{os.getuid()}")


def copy_of(address: str) -> Path:
    """The local copy of an address.

    Raises:
        UsageError: it cannot be used.
    """
    return private(copies() / sha256(address.encode()).hexdigest()[:16])
