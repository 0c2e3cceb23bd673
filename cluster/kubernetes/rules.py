"""Reasons against a job on Kubernetes that are known without asking a cluster: names, image, secrets, sizes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster.hiding import hide_command
from cluster.job import Job
from cluster.kubernetes import rayjob, words
from cluster.kubernetes.options import KubernetesOptions
from cluster.package import collect, write_zip

LIMIT = 2**20
"""Bytes that a ConfigMap holds. Source: kubernetes, pkg/apis/core/validation, MaxSecretSize."""


def reasons_against(options: KubernetesOptions, job: Job) -> list[str]:
    """Every reason why the job cannot run with these options, one sentence each."""
    return [
        *_image(options.image),
        *_names(options),
        *malformed(options),
        *_secrets(options, job),
        *_sizes(options, job),
    ]


def _image(image: str) -> Iterator[str]:
    name, _, tag = image.partition("@")[0].rpartition(":")
    ours = words.version("reprise")
    if not image:
        yield "No image is named: build one from docker/Dockerfile, push it, and name it with image."
    elif not re.fullmatch(r"[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?(:\w[\w.-]*)?(@sha256:[0-9a-f]{64})?", image, re.ASCII):
        yield f"{image!r} cannot name an image: write REGISTRY/NAME:TAG, in lower case but for the tag."
    elif not name or "/" in tag or ours not in re.split(r"[-_]", tag):
        yield (
            f"The tag of the image {image} does not say that it holds reprise {ours} (the tag is what is checked): "
            f"build it from docker/Dockerfile and tag it {ours}, or {ours}-WORD."
        )


def _names(options: KubernetesOptions) -> Iterator[str]:
    for what in ("namespace", "service_account", "priority"):
        name = getattr(options, what)
        if name and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", name):
            yield f"{name!r} cannot be a {what}: use a-z, 0-9 and '-', with a letter or digit at both ends."


def malformed(options: KubernetesOptions) -> Iterator[str]:
    """Reasons about options that cannot be parsed; with such an option there is no manifest."""
    kinds: list[tuple[Callable[[str], object], tuple[str, ...]]] = [
        (words.parse_volume, options.volumes),
        (words.parse_secret, options.secrets),
        (words.parse_label, (*options.node_selector, *((options.gpu_type,) if options.gpu_type else ()))),
        (words.parse_toleration, options.tolerations),
        (words.parse_seconds, (options.time,) if options.time else ()),
    ]
    for parse, texts in kinds:
        for text in texts:
            try:
                parse(text)
            except ValueError as error:
                yield str(error)


def _secrets(options: KubernetesOptions, job: Job) -> Iterator[str]:
    for name in rayjob.exposed(job, options.secrets):
        secret = name.lower().replace("_", "-").strip("-")
        yield (
            f"{name} holds a secret, and all who may read the job would see it: `kubectl create secret generic "
            f"{secret} --from-literal=value=...`, then name it in secrets as {name}={secret}/value."
        )
    if hide_command(job.command) != tuple(job.command):
        yield "The command holds a secret, and all who may read the job would see it: pass it as a variable."
    if odd := [name for name in job.env if not re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII)]:
        yield f"Kubernetes takes no variable named {', '.join(map(repr, odd))}: use letters, digits and '_'."


def _sizes(options: KubernetesOptions, job: Job) -> Iterator[str]:
    if job.resources.nodes < 1:
        yield f"{job.resources.nodes} nodes were asked for: ask for at least 1."
    if job.resources.gpus % 1:
        yield f"{job.resources.gpus:g} GPUs were asked for, and Kubernetes gives whole ones: ask for a whole number."
    if options.attempts < 1:
        yield f"attempts must be at least 1, not {options.attempts}."
    for what in ("ttl", "grace"):
        if not 0 <= getattr(options, what) < 2**31:
            yield f"{what} must be seconds from 0 to {2**31 - 1}, not {getattr(options, what):g}."
    if options.workdir and not options.workdir.startswith("/"):
        yield f"workdir must be a folder's whole path in the pods, such as /data/work, not {options.workdir!r}."
    if not options.workdir:
        yield from _too_big(job.workdir)


def _too_big(workdir: Path) -> Iterator[str]:
    try:
        package = collect(workdir)
    except ValueError as error:
        yield str(error)
        return
    with tempfile.TemporaryDirectory() as scratch:
        size = write_zip(package, Path(scratch) / words.ARCHIVE) if package.size < 100 * LIMIT else package.size
    if size > LIMIT:
        yield (
            f"The working directory {package.root} packs to {size / 2**20:.1f} MiB, and a ConfigMap takes 1 MiB: list "
            f"what the job does not need in .rayignore (the largest files are {package.largest()}), or name a folder of "
            "a volume or of the image with workdir."
        )
