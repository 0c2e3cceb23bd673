"""Profiles: names for a backend with its options, so that a user types `--on lab`.

    lab:
      on: slurm
      partition: gpu
      nodes: 2
      setup: [module load cuda, source venv/bin/activate]
      env: {HF_HOME: /shared/hf, WANDB_API_KEY: }      # no value: the submitter's own is passed on

The user's own file is read first, then the project's, whose keys win. A profile decides which programs run and which cluster
gets a token, so the project's files count only where the user has approved them as they are now (`reprise trust`). All scalars
are kept as they are written: YAML would turn the time limit 12:00:00 into 43200. `ray_jobs.jobs.backend_options` converts values
to the types of the options.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster import yaml_reader
from cluster.hiding import is_secret
from cluster.job import LauncherError
from cluster.trust import approved, digest

FILES = ("clusters.yaml", ".reprise/clusters.yaml")
"""The project's files: in the nearest folder upwards within its checkout; outside a checkout, in the current folder only."""
BY_REFERENCE = ("secrets",)
"""Keys whose values name a secret and do not hold it."""

Content = str | tuple[str, ...] | dict[str, str | None]


@dataclass(frozen=True)
class Value:
    """The value of a key in a profile, and the file and line that it comes from."""

    content: Content
    where: str


Profile = dict[str, Value]


def load(folder: Path | None = None) -> dict[str, Profile]:
    """Every profile that applies in a folder (by default the current one), by name, merged key by key.

    Files of the project that the user has not approved are left out.

    Raises:
        LauncherError: a file cannot be read, or is no mapping of profiles; file and line are named.
    """
    found: dict[str, Profile] = {}
    folder = folder or Path.cwd()
    foreign = unapproved(folder)
    for path in (path for path in files(folder) if path not in foreign):
        for name, profile in read(path).items():
            found[name] = merged(found.get(name, {}), profile)
    return found


def files(folder: Path) -> list[Path]:
    """The files with profiles for a folder; a later file overrides an earlier one."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    own = (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "reprise/clusters.yaml"
    return [*([own] if os.path.lexists(own) else []), *of_project(folder.absolute())]


def unapproved(folder: Path) -> list[Path]:
    """The project's files that the user has not approved as they are now."""
    return [path for path in of_project(folder.absolute()) if not approved(path, approval(path))]


def approval(path: Path) -> str:
    """The hash by which a user approves a file: of the file, and of each kubeconfig that it names, which can run programs too.

    A kubeconfig in ~/.kube is the user's own, and not part of it.
    """
    return digest(_bytes(path), *(_bytes(named) for named in _kubeconfigs(path)))


def refusal(path: Path) -> str:
    """The sentence about a file that the user has not approved as it is now."""
    if not path.is_file():
        return f"{path} cannot be read: it is no plain file."
    if approved(path, "") is None:
        return f"{path} decides where jobs run and what runs there, and you have not approved it: read it, then `reprise trust {path}`."
    return f"{path} (or a kubeconfig that it names) has changed since you approved it: read it again, then `reprise trust {path}`."


def names(path: Path) -> list[str]:
    """The names of the profiles in a file; none where it cannot be read."""
    try:
        return list(read(path))
    except (LauncherError, RecursionError):
        return []


def _kubeconfigs(path: Path) -> list[Path]:
    """The kubeconfigs outside of ~/.kube that a file names."""
    try:
        profiles = read(path).values()
    except (LauncherError, RecursionError):
        return []
    texts = {str(profile["kubeconfig"].content) for profile in profiles if "kubeconfig" in profile}
    found = {Path(text).expanduser().absolute() for text in texts if text}
    return sorted(one for one in found if not one.resolve().is_relative_to((Path.home() / ".kube").resolve()))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def merged(under: Profile, over: Profile) -> Profile:
    """The keys of both profiles; those of `over` win, and so do its variables in `env`."""
    both = under | over
    if "env" in under and "env" in over:
        one, two = under["env"].content, over["env"].content
        if isinstance(one, dict) and isinstance(two, dict):
            both["env"] = Value(one | two, over["env"].where)
    return both


def read(path: Path) -> dict[str, Profile]:
    """The profiles of one file.

    Raises:
        LauncherError: see `load`; also for a secret that is written out, or a key that is written twice.
    """
    try:
        node = yaml_reader.read(path)
    except yaml_reader.YamlError as error:
        raise LauncherError(f"The file of profiles {error}") from None
    if node is None:
        return {}
    return {name: _profile(name, value, path) for name, (_, value) in _pairs(node, str(path)).items()}


def of_project(folder: Path) -> list[Path]:
    """The project's files. Only one checkout is searched: other users may write to a folder above it, such as /tmp."""
    above = [folder, *folder.parents]
    top = next((at for at, level in enumerate(above) if (level / ".git").exists()), 0)
    for level in above[: top + 1]:
        if there := [level / name for name in FILES if os.path.lexists(level / name)]:
            return there
    return []


def _profile(name: str, node: yaml.Node, path: Path) -> Profile:
    what = f"The profile '{name}' in {path}, line {yaml_reader.line(node)},"
    return {
        key.replace("-", "_"): _value(key.replace("-", "_"), at, value, path)
        for key, (at, value) in _pairs(node, what).items()
    }


def _value(key: str, at: yaml.Node, node: yaml.Node, path: Path) -> Value:
    where = f"{path}, line {yaml_reader.line(at)}"
    content = _content(node, f"{key} in {where}")
    if isinstance(content, dict) != (key == "env"):
        raise LauncherError(f"{where}: {key} takes {_shape(key)}.")
    for name in _written_out(key, content):
        raise LauncherError(
            f"{where}: {name} looks like a secret, and profiles hold none by value: write `env: {{{name}: }}`, "
            "without a value, to pass on the one that is set where you submit, or name a file or a secret of the cluster."
        )
    return Value(content, where)


def _shape(key: str) -> str:
    return "names and values, as in `env: {HF_HOME: /shared/hf}`" if key == "env" else "one value or a list, no names"


def _written_out(key: str, content: Content) -> list[str]:
    """Names of secrets whose values are written out."""
    if isinstance(content, dict):
        return [name for name, value in content.items() if value and is_secret(name, value)]
    if key in BY_REFERENCE:
        return []
    texts = [content] if isinstance(content, str) else content
    inside = [name for text in texts for name in re.findall(r"([\w-]+)=[^\s$]", text) if is_secret(name)]
    return [*([key] if is_secret(key) and any(texts) else []), *inside]


def _content(node: yaml.Node, what: str) -> Content:
    if isinstance(node, yaml.MappingNode):
        return {name: _scalar(value, what) for name, (_, value) in _pairs(node, what).items()}
    if isinstance(node, yaml.SequenceNode):
        return tuple(_scalar(item, what) or "" for item in node.value)
    return _scalar(node, what) or ""


def _scalar(node: yaml.Node, what: str) -> str | None:
    """The text exactly as written; None where there is no value."""
    if not isinstance(node, yaml.ScalarNode):
        raise LauncherError(
            f"{what}, line {yaml_reader.line(node)}: a value is one word or text here, no list or mapping."
        )
    return yaml_reader.text_of(node)


def _pairs(node: yaml.Node, what: str) -> yaml_reader.Pairs:
    """The entries of a mapping: each name with the nodes of name and value."""
    if not isinstance(node, yaml.MappingNode):
        raise LauncherError(f"{what} must hold 'name: value' lines, as in `lab: {{on: slurm, partition: gpu}}`.")
    try:
        return yaml_reader.pairs(node, what)
    except yaml_reader.YamlError as error:
        raise LauncherError(str(error)) from None
