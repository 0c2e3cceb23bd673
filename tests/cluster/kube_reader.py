"""How KubeRay and Kubernetes read a manifest: against its schema, and on the way from a job's command to a shell.

RayJobs and RayClusters are checked with KubeRay's own schema, made strict: an unknown field is refused, as a server
does that was asked to (fieldValidation=Strict). The submitter's command and the variables are expanded as Kubernetes
does it, a real bash reads the command, and what it hands to `ray job submit` is quoted again, for a shell.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import yaml

SCHEMA = Path(__file__).with_name("kuberay_v1.json.gz")
"""KubeRay 1.7's CRDs RayJob and RayCluster, v1: openAPIV3Schema without descriptions. Copyright the KubeRay authors,
Apache-2.0 (github.com/ray-project/kuberay, helm-chart/kuberay-operator/crds at feeaf72)."""
NAME = r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?"
FAKE_RAY = """#!/bin/sh
# knows of no job, and keeps what it should submit
[ "$2" = submit ] && exec {python} -ISE - "$@" <<'END'
import json, shlex, sys
words = sys.argv[1:]
end = words.index("--")
given = dict(zip(words[2:end], words[3:end]))
request = {{"entrypoint": shlex.join(words[end + 1 :]), "runtime_env": given.get("--runtime-env-json", "{{}}")}}
open("submitted.json", "w").write(json.dumps(request))
END
[ "$2" != status ]
"""


def strict(schema: dict) -> dict:
    """The schema with no room for unknown fields."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(part) for key, part in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema and schema.get("type") == "object":
        closed["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return closed


@functools.cache
def validator(kind: str) -> jsonschema.Validator:
    known = strict(json.loads(gzip.decompress(SCHEMA.read_bytes())))
    return jsonschema.Draft202012Validator({"$ref": f"#/{kind}", **known})


def faults(manifest: dict) -> list[str]:
    """What KubeRay's schema and Kubernetes' rules for names say against a manifest."""
    name = manifest.get("metadata", {}).get("name", "")
    found = [f"metadata.name: Invalid value: {name!r}"] if not re.fullmatch(NAME, name) else []
    if manifest.get("kind") in ("RayJob", "RayCluster"):
        for error in validator(manifest["kind"]).iter_errors(manifest):
            found.append(f"{'.'.join(map(str, error.absolute_path))}: {error.message}"[:400])
    return found


def expand(text: str, env: dict[str, str]) -> str:
    """`$(NAME)` and `$$` as Kubernetes reads them. Source: kubernetes, third_party/forked/golang/expansion."""
    return re.sub(
        r"\$(?:(\$)|\(([^)]*)\))",
        lambda m: "$" if m[1] else env.get(m[2], m[0]) if m[2] else m[0],
        text,
        flags=re.DOTALL,
    )


def variables(container: dict, secrets: dict[tuple[str, str], str]) -> dict[str, str]:
    """A container's own variables, in their order."""
    env: dict[str, str] = {}
    for one in container.get("env", []):
        source = one.get("valueFrom", {}).get("secretKeyRef")
        env[one["name"]] = secrets[source["name"], source["key"]] if source else expand(one["value"], env)
    return env


def submitter(rayjob: dict, address: str) -> list[str]:
    """The command of KubeRay's submitter. Source: KubeRay 1.7, controllers/ray/common/job.go, BuildJobSubmitCommand."""
    spec = rayjob["spec"]
    quoted = json.dumps(json.dumps(yaml.safe_load(spec.get("runtimeEnvYAML", "{}"))))
    line = (
        f"until true >/dev/null 2>&1 ; do sleep 2 ; done ; "
        f"if ! ray job status --address {address} {spec['jobId']} >/dev/null 2>&1 ; then "
        f"ray job submit --address {address} --no-wait --runtime-env-json {quoted} --submission-id {spec['jobId']} -- "
        f"{spec['entrypoint'].strip()} ; fi ; ray job logs --address {address} --follow {spec['jobId']}"
    )
    known = {"RAY_JOB_SUBMISSION_ID": spec["jobId"], "RAY_DASHBOARD_ADDRESS": address, "PYTHONUNBUFFERED": "1"}
    return ["/bin/bash", "-ce", "--", expand(line, known)]


def submitted(rayjob: dict, scratch: Path) -> dict:
    """What KubeRay's submitter submits to Ray for this RayJob: {entrypoint, runtime_env}, both text."""
    (scratch / "ray").write_text(FAKE_RAY.format(python=shlex.quote(sys.executable)))
    (scratch / "ray").chmod(0o755)
    env = {"PATH": f"{scratch}:{os.environ['PATH']}", "HOME": "/root"}
    line = submitter(rayjob, "http://head:8265")
    subprocess.run(line, cwd=scratch, env=env, check=True, timeout=60, capture_output=True)
    return json.loads((scratch / "submitted.json").read_text())


def unpack(packed: bytes, folder: Path) -> None:
    """As Ray unpacks a working directory that it is given by address: without its top, where that is a single folder."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(folder)
    top = {name.partition("/")[0] for name in archive.namelist()}
    if len(top) == 1 and all("/" in name for name in archive.namelist()):
        [only] = folder.iterdir()
        for path in only.iterdir():
            path.rename(folder / path.name)
