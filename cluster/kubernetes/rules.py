"""The reasons against a job on Kubernetes that can be told without a cluster: names, image, secrets, sizes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.job import Job, hide_command
from cluster.kubernetes import rayjob
from cluster.kubernetes import words as kube_words
from cluster.package import collect, write_zip

if TYPE_CHECKING:
    from cluster.kubernetes.launcher import Kubernetes

LIMIT = 2**20
"""Bytes that a ConfigMap holds. Source: kubernetes, pkg/apis/core/validation, MaxSecretSize."""


def before(place: Kubernetes, job: Job) -> list[str]:
    """The reasons, one sentence each."""
    return [*_image(place.image), *_names(place), *bad_words(place), *_secrets(place, job), *_sizes(place, job)]


def _image(image: str) -> Iterator[str]:
    name, _, tag = image.partition("@")[0].rpartition(":")
    ours = rayjob.version("reprise")
    if not image:
        yield "No image is named: build one from docker/Dockerfile, push it, and name it with image."
    elif not re.fullmatch(r"[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?(:\w[\w.-]*)?(@sha256:[0-9a-f]{64})?", image, re.ASCII):
        yield f"{image!r} cannot name an image: write REGISTRY/NAME:TAG, in lower case but for the tag."
    elif not name or "/" in tag or ours not in re.split(r"[-_]", tag):
        yield (
            f"The tag of the image {image} does not say that it holds reprise {ours} (the tag is what is checked): "
            f"build it from docker/Dockerfile and tag it {ours}, or {ours}-WORD."
        )


def _names(place: Kubernetes) -> Iterator[str]:
    for what in ("namespace", "service_account", "priority"):
        name = getattr(place, what)
        if name and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", name):
            yield f"{name!r} cannot be a {what}: use a-z, 0-9 and '-', with a letter or digit at both ends."


def bad_words(place: Kubernetes) -> Iterator[str]:
    """What of the place's words is not written as it must be; with such a word there is no manifest."""
    kinds: list[tuple[Callable[[str], object], tuple[str, ...]]] = [
        (kube_words.volume_word, place.volumes),
        (kube_words.secret_word, place.secrets),
        (kube_words.label_word, (*place.node_selector, *((place.gpu_type,) if place.gpu_type else ()))),
        (kube_words.toleration_word, place.tolerations),
        (kube_words.seconds_word, (place.time,) if place.time else ()),
    ]
    for read, words in kinds:
        for word in words:
            try:
                read(word)
            except ValueError as error:
                yield str(error)


def _secrets(place: Kubernetes, job: Job) -> Iterator[str]:
    for name in rayjob.exposed(job, place.secrets):
        secret = name.lower().replace("_", "-").strip("-")
        yield (
            f"{name} holds a secret, and all who may read the job would see it: `kubectl create secret generic "
            f"{secret} --from-literal=value=...`, then name it in secrets as {name}={secret}/value."
        )
    if hide_command(job.command) != tuple(job.command):
        yield "The command holds a secret, and all who may read the job would see it: pass it as a variable."
    if odd := [name for name in job.env if not re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII)]:
        yield f"Kubernetes takes no variable named {', '.join(map(repr, odd))}: use letters, digits and '_'."


def _sizes(place: Kubernetes, job: Job) -> Iterator[str]:
    if job.resources.nodes < 1:
        yield f"{job.resources.nodes} nodes were asked for: ask for at least 1."
    if job.resources.gpus % 1:
        yield f"{job.resources.gpus:g} GPUs were asked for, and Kubernetes gives whole ones: ask for a whole number."
    if place.attempts < 1:
        yield f"attempts must be at least 1, not {place.attempts}."
    for what in ("ttl", "grace"):
        if not 0 <= getattr(place, what) < 2**31:
            yield f"{what} must be seconds from 0 to {2**31 - 1}, not {getattr(place, what):g}."
    if place.workdir and not place.workdir.startswith("/"):
        yield f"workdir must be a folder's whole path in the pods, such as /data/work, not {place.workdir!r}."
    if not place.workdir:
        yield from _too_big(job.workdir)


def _too_big(workdir: Path) -> Iterator[str]:
    try:
        package = collect(workdir)
    except ValueError as error:
        yield str(error)
        return
    with tempfile.TemporaryDirectory() as scratch:
        size = write_zip(package, Path(scratch) / rayjob.ARCHIVE) if package.size < 100 * LIMIT else package.size
    if size > LIMIT:
        yield (
            f"The working directory {package.root} packs to {size / 2**20:.1f} MiB, and a ConfigMap takes 1 MiB: list "
            f"what the job does not need in .rayignore (the largest files are {package.largest()}), or name a folder of "
            "a volume or of the image with workdir."
        )
